ALTER TABLE audit_pending ADD COLUMN result VARCHAR(16);

ALTER TABLE audit_pending ADD COLUMN reason_code VARCHAR(128);

ALTER TABLE audit_pending ADD COLUMN actor_kind VARCHAR(16);

ALTER TABLE audit_pending ADD COLUMN actor_id VARCHAR(128);

ALTER TABLE audit_pending ADD COLUMN target_type VARCHAR(16);

ALTER TABLE audit_pending ADD COLUMN trace_id VARCHAR(32);

ALTER TABLE audit_pending ADD COLUMN method VARCHAR(16);

ALTER TABLE audit_pending ADD COLUMN route VARCHAR(128);

ALTER TABLE audit_pending ADD COLUMN instance VARCHAR(128);

ALTER TABLE audit_producer ADD COLUMN sequenced BIGINT NOT NULL DEFAULT 0;

ALTER TABLE audit_opening ADD COLUMN lookup VARCHAR(16);

CREATE INDEX audit_opening_by_lookup ON audit_opening (lookup);

CREATE TABLE audit_entry (
    idx BIGINT NOT NULL PRIMARY KEY,
    id VARCHAR(36) NOT NULL UNIQUE,
    producer VARCHAR(128) NOT NULL,
    seq BIGINT NOT NULL,
    at BIGINT NOT NULL,
    action VARCHAR(64) NOT NULL,
    result VARCHAR(16) NOT NULL,
    reason_code VARCHAR(128),
    actor_kind VARCHAR(16) NOT NULL,
    actor_id VARCHAR(128),
    project_id VARCHAR(36),
    token_id VARCHAR(36),
    target_type VARCHAR(16),
    target_id VARCHAR(128),
    trace_id VARCHAR(32),
    method VARCHAR(16),
    route VARCHAR(128),
    instance VARCHAR(128) NOT NULL,
    leaf TEXT NOT NULL,
    leaf_hash VARCHAR(64) NOT NULL,
    UNIQUE (producer, seq)
);

CREATE INDEX audit_entry_by_time ON audit_entry (at, idx);

CREATE INDEX audit_entry_by_action ON audit_entry (action, idx);

CREATE INDEX audit_entry_by_project ON audit_entry (project_id, idx);

CREATE INDEX audit_entry_by_target ON audit_entry (target_id, idx);

CREATE TABLE audit_chain (
    name VARCHAR(16) NOT NULL PRIMARY KEY,
    epoch BIGINT NOT NULL,
    holder VARCHAR(128) NOT NULL,
    held_until BIGINT NOT NULL,
    size BIGINT NOT NULL,
    pruned_to BIGINT NOT NULL
);

INSERT INTO audit_chain (name, epoch, holder, held_until, size, pruned_to)
VALUES ('main', 0, '', 0, 0, 0);

CREATE TABLE audit_checkpoint (
    size BIGINT NOT NULL PRIMARY KEY,
    root VARCHAR(64) NOT NULL,
    at BIGINT NOT NULL,
    note TEXT NOT NULL
);

CREATE TABLE audit_cursor (
    instance VARCHAR(64) NOT NULL PRIMARY KEY,
    seq BIGINT NOT NULL
);

CREATE TABLE legal_holds (
    id VARCHAR(36) NOT NULL PRIMARY KEY,
    name VARCHAR(255) NOT NULL,
    project_id VARCHAR(36),
    since BIGINT,
    until BIGINT,
    placed_at BIGINT NOT NULL,
    released_at BIGINT,
    rev BIGINT NOT NULL
);
