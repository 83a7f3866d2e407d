"""GPT-2 as equations over a tree of parameters."""
