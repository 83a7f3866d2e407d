"""Flags of `minigpt bench`."""

from absl import flags

from minigpt.config import WEIGHTS as FORMATS
from minigpt.config import GPTConfig, TrainConfig
from minigpt.runtime import app

KINDS = ('train', 'prefill', 'decode', 'roofline')

FLAGS = flags.FlagValues()
WHAT = flags.DEFINE_string(
  'what', 'train', f'one of {", ".join(KINDS)}', flag_values=FLAGS
)
PRESET = flags.DEFINE_string(
  'preset', 'gpt2-124m', 'model and its recipe', flag_values=FLAGS
)
WEIGHTS = flags.DEFINE_string(
  'weights',
  'float32',
  f'one of {", ".join(FORMATS)}; not for training',
  flag_values=FLAGS,
)
PROMPT = flags.DEFINE_integer(
  'prompt_length', 128, 'tokens of each prompt', flag_values=FLAGS
)
NEW = flags.DEFINE_integer(
  'new_tokens', 64, 'tokens generated for each prompt', flag_values=FLAGS
)
REPEATS = flags.DEFINE_integer(
  'repeats', 5, 'calls that are timed', flag_values=FLAGS
)
JSON = flags.DEFINE_string(
  'json', None, 'file for the figures', flag_values=FLAGS
)
PLOT = flags.DEFINE_string(
  'plot',
  None,
  'picture of the roofline with the measurement: .png, .svg or .pdf',
  flag_values=FLAGS,
)
STABLEHLO = flags.DEFINE_string(
  'stablehlo',
  None,
  'time nothing: write the programs into this new folder',
  flag_values=FLAGS,
)
DEVICE = flags.DEFINE_string(
  'device',
  'any',
  'with --stablehlo, what will run it: any, or only cuda',
  flag_values=FLAGS,
)
EXPECTED = flags.DEFINE_bool(
  'expected',
  True,
  'with --stablehlo: also run it, and write its results',
  flag_values=FLAGS,
)
app.define_flags(FLAGS, GPTConfig, TrainConfig)
