"""The public contract, generated from proto/taskraft/v1: messages and gRPC stubs."""
