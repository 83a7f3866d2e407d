"""From a prompt to new text: sampling, the decoding loop, and its variants.

`sampling_fields` lists the options that a request can set for each sequence.
`logits_processors` change the logits, `sampling` chooses a token from them, and
`decode` is the loop with its KV cache; `beam_search` and `prompt_lookup` are
other loops. `generator` runs them on text, as a `Request` says. `serving` makes
signatures of them. This module imports nothing, so that commands can build
their flags from the list without importing TensorFlow.
"""
