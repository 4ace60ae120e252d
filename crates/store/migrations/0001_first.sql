CREATE TABLE meta (
    name VARCHAR(64) NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE counters (
    name VARCHAR(64) NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);

INSERT INTO counters (name, value) VALUES ('change', 0);

INSERT INTO counters (name, value) VALUES ('pending', 0);

CREATE TABLE projects (
    id VARCHAR(36) NOT NULL PRIMARY KEY,
    name VARCHAR(255) NOT NULL UNIQUE,
    is_active SMALLINT NOT NULL,
    deactivated_at BIGINT,
    labels TEXT NOT NULL,
    capture_bodies VARCHAR(16),
    rev BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE provider_keys (
    project_id VARCHAR(36) NOT NULL,
    provider VARCHAR(64) NOT NULL,
    key_id VARCHAR(16) NOT NULL,
    ciphertext TEXT NOT NULL,
    obfuscated VARCHAR(64) NOT NULL,
    version BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (project_id, provider),
    FOREIGN KEY (project_id) REFERENCES projects (id)
);

CREATE TABLE tokens (
    id VARCHAR(36) NOT NULL PRIMARY KEY,
    project_id VARCHAR(36) NOT NULL,
    hash VARCHAR(64) NOT NULL UNIQUE,
    obfuscated VARCHAR(64) NOT NULL,
    is_active SMALLINT NOT NULL,
    revoked_at BIGINT,
    expires_at BIGINT,
    max_requests BIGINT,
    rate_limit_rpm BIGINT,
    allowed_models TEXT,
    labels TEXT NOT NULL,
    description TEXT,
    capture_bodies VARCHAR(16),
    rev BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    FOREIGN KEY (project_id) REFERENCES projects (id)
);

CREATE INDEX tokens_by_project ON tokens (project_id, id);

CREATE TABLE token_usage (
    token_id VARCHAR(36) NOT NULL PRIMARY KEY,
    request_count BIGINT NOT NULL,
    last_used_at BIGINT,
    FOREIGN KEY (token_id) REFERENCES tokens (id)
);

CREATE TABLE usage_cursor (
    instance VARCHAR(64) NOT NULL PRIMARY KEY,
    seq BIGINT NOT NULL
);

CREATE TABLE management_keys (
    id VARCHAR(36) NOT NULL PRIMARY KEY,
    name VARCHAR(255) NOT NULL,
    hash VARCHAR(64) NOT NULL UNIQUE,
    obfuscated VARCHAR(64) NOT NULL,
    role VARCHAR(16) NOT NULL,
    project_ids TEXT,
    expires_at BIGINT,
    revoked_at BIGINT,
    rev BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE settings (
    name VARCHAR(128) NOT NULL PRIMARY KEY,
    value TEXT NOT NULL,
    rev BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE changes (
    seq BIGINT NOT NULL PRIMARY KEY,
    kind VARCHAR(16) NOT NULL,
    entity_id VARCHAR(36) NOT NULL
);

CREATE TABLE audit_producer (
    producer VARCHAR(128) NOT NULL PRIMARY KEY,
    seq BIGINT NOT NULL
);

CREATE TABLE audit_pending (
    position BIGINT NOT NULL PRIMARY KEY,
    id VARCHAR(36) NOT NULL UNIQUE,
    producer VARCHAR(128) NOT NULL,
    seq BIGINT NOT NULL,
    at BIGINT NOT NULL,
    action VARCHAR(64) NOT NULL,
    project_id VARCHAR(36),
    token_id VARCHAR(36),
    target_id VARCHAR(128),
    leaf TEXT NOT NULL,
    leaf_hash VARCHAR(64) NOT NULL,
    UNIQUE (producer, seq)
);

CREATE TABLE audit_opening (
    entry_id VARCHAR(36) NOT NULL,
    path VARCHAR(128) NOT NULL,
    salt VARCHAR(64) NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (entry_id, path)
);
