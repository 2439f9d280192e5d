"""From a batch of prompts to records, and from a cell's records to its row."""
