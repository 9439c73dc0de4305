"""The disk queue that is the checkpoint."""
