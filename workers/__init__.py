"""The back office: one module per job."""
