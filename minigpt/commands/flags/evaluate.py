"""Flags of `minigpt evaluate`."""

from absl import flags

FLAGS = flags.FlagValues()
WORKDIR = flags.DEFINE_string(
  'workdir',
  None,
  "run, or directory in Hugging Face's or OpenAI's format",
  flag_values=FLAGS,
)
DATASET = flags.DEFINE_string(
  'dataset',
  None,
  'what to measure on; as for `minigpt train`, or a .jsonl file',
  flag_values=FLAGS,
)
TASK = flags.DEFINE_enum(
  'task',
  'text',
  ['text', 'choice', 'last_word', 'pairs'],
  'what to measure',
  flag_values=FLAGS,
)
STRIDE = flags.DEFINE_integer(
  'stride',
  None,
  'new tokens in each window of a text; 0: the whole window (default: the '
  "run's --eval_stride)",
  flag_values=FLAGS,
)
WINDOW = flags.DEFINE_integer(
  'window',
  0,
  "tokens in each window; 0: the model's context_length",
  flag_values=FLAGS,
)
LIMIT = flags.DEFINE_integer(
  'limit',
  0,
  'measure on the first examples (of a text: tokens); 0: on all',
  flag_values=FLAGS,
)
PLOT = flags.DEFINE_string(
  'plot',
  None,
  'picture of the results: .png, .svg or .pdf',
  flag_values=FLAGS,
)
JSON = flags.DEFINE_bool(
  'json', False, 'print one JSON object', flag_values=FLAGS
)
