"""Moving data between the local disk and the servers: uploads, fetches, read-ahead, post check."""
