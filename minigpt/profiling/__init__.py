"""What a model costs: operations, time, memory, and the share of the roofline."""
