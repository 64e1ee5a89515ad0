"""What is trained: one module for each network, with its loss, its data and its validation."""
