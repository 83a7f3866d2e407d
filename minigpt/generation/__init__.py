"""From a prompt to new text: sampling, the loop around it, and its variants.

`sampling_fields` is the one list of what a request can set for each sequence;
`sampling` chooses a token from logits, `logits_processors` change them before,
`decode` is the loop with its cache. `beam_search` and `prompt_lookup` replace
the loop. `generator` does all that for text, as a `Request` asks. What a server
offers of it is in `serving`. This module imports nothing, so that commands can
make flags of the list without waiting for TensorFlow.
"""
