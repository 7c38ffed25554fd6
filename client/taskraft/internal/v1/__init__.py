"""What the replicated log holds, generated from proto/taskraft/internal/v1."""
