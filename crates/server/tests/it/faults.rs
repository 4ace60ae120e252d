//! Broken disks, databases, pipes, providers and clients.
