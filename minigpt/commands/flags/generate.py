"""Flags of `minigpt generate`."""

from typing import Any

from absl import flags

from minigpt.config import COMPUTE_DTYPES
from minigpt.config import WEIGHTS as FORMATS
from minigpt.generation.request import Request
from minigpt.generation.sampling_fields import SAMPLING_FIELDS

_DEFAULT = Request()
FLAGS = flags.FlagValues()
WORKDIR = flags.DEFINE_string(
  'workdir', None, 'run whose model generates', flag_values=FLAGS
)
PROMPT = flags.DEFINE_multi_string(
  'prompt', None, 'text to continue', flag_values=FLAGS
)
_DEFINE: dict[bool, Any] = {
  True: flags.DEFINE_integer,
  False: flags.DEFINE_float,
}
SAMPLING = {
  name: _DEFINE[field.is_integer](
    name, field.default, field.help, flag_values=FLAGS
  )
  for name, field in SAMPLING_FIELDS.items()
}
NUM_SAMPLES = flags.DEFINE_integer(
  'num_samples', 1, 'answers to each prompt', flag_values=FLAGS
)
STOP = flags.DEFINE_multi_string(
  'stop', [], 'text that ends an answer', flag_values=FLAGS
)
LOGIT_BIAS = flags.DEFINE_multi_string(
  'logit_bias',
  [],
  'ID=BIAS: added to the logit of a token; -100 forbids it',
  flag_values=FLAGS,
)
BAN = flags.DEFINE_multi_string(
  'ban', [], 'text that must not be generated', flag_values=FLAGS
)
NUM_BEAMS = flags.DEFINE_integer(
  'num_beams',
  _DEFAULT.num_beams,
  'from 2 on: beam search instead of sampling',
  flag_values=FLAGS,
)
LENGTH_PENALTY = flags.DEFINE_float(
  'length_penalty',
  _DEFAULT.length_penalty,
  'above 0: beams may be longer',
  flag_values=FLAGS,
)
SPECULATE = flags.DEFINE_integer(
  'speculate',
  _DEFAULT.speculate,
  'tokens to guess ahead where the text repeats itself, which gives the same '
  'text in less time; needs --temperature=0; 0: none',
  flag_values=FLAGS,
)
GRAMMAR = flags.DEFINE_string(
  'grammar',
  None,
  'FILE.regex or FILE.schema.json that each text must match as a whole',
  flag_values=FLAGS,
)
WEIGHTS = flags.DEFINE_string(
  'weights',
  'float32',
  f'one of {", ".join(FORMATS)}: fewer bits, more speed',
  flag_values=FLAGS,
)
COMPUTE_DTYPE = flags.DEFINE_string(
  'compute_dtype',
  'float32',
  f'one of {", ".join(COMPUTE_DTYPES)}; bfloat16: long prompts and several '
  'sequences at once take less time on processors with bfloat16 hardware',
  flag_values=FLAGS,
)
