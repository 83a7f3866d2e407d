"""Flags of `minigpt generate`."""

from absl import flags

from minigpt.config import COMPUTE_DTYPES
from minigpt.config import WEIGHTS as FORMATS

FLAGS = flags.FlagValues()
WORKDIR = flags.DEFINE_string(
  'workdir', None, 'run whose model generates', flag_values=FLAGS
)
PROMPT = flags.DEFINE_multi_string(
  'prompt', None, 'text to continue', flag_values=FLAGS
)
MAX_NEW_TOKENS = flags.DEFINE_integer(
  'max_new_tokens', 200, 'longest continuation', flag_values=FLAGS
)
TEMPERATURE = flags.DEFINE_float(
  'temperature',
  0.8,
  'below 1: more conservative, above 1: more surprising; 0: always the most '
  'likely token',
  flag_values=FLAGS,
)
TOP_K = flags.DEFINE_integer(
  'top_k',
  0,
  'sample from the k most likely tokens; 0: from all',
  flag_values=FLAGS,
)
TOP_P = flags.DEFINE_float(
  'top_p',
  1.0,
  'sample from the most likely tokens that reach this total probability',
  flag_values=FLAGS,
)
NUM_SAMPLES = flags.DEFINE_integer(
  'num_samples', 1, 'answers to each prompt', flag_values=FLAGS
)
SEED = flags.DEFINE_integer(
  'seed', 0, 'the same seed gives the same text', flag_values=FLAGS
)
STOP = flags.DEFINE_multi_string(
  'stop', [], 'text that ends an answer', flag_values=FLAGS
)
REPETITION_PENALTY = flags.DEFINE_float(
  'repetition_penalty',
  1.0,
  'above 1: tokens that occur already become less likely',
  flag_values=FLAGS,
)
MIN_NEW_TOKENS = flags.DEFINE_integer(
  'min_new_tokens',
  0,
  'tokens before the text may end',
  flag_values=FLAGS,
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
  1,
  'from 2 on: beam search instead of sampling',
  flag_values=FLAGS,
)
LENGTH_PENALTY = flags.DEFINE_float(
  'length_penalty',
  1.0,
  'above 0: beams may be longer',
  flag_values=FLAGS,
)
SPECULATE = flags.DEFINE_integer(
  'speculate',
  0,
  'tokens to guess ahead where the text repeats itself, at temperature 0: the '
  'same text in less time; 0: none',
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
