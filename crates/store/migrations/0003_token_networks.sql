CREATE TABLE token_networks (
    token_id VARCHAR(36) NOT NULL,
    network VARCHAR(32) NOT NULL,
    first_at BIGINT NOT NULL,
    PRIMARY KEY (token_id, network),
    FOREIGN KEY (token_id) REFERENCES tokens (id)
);
