"""Flags of `minigpt export`."""

from absl import flags

from minigpt.config import SERVED_DTYPES, STORED_WEIGHTS
from minigpt.serving.options import Options

_DEFAULT = Options()

FLAGS = flags.FlagValues()
WORKDIR = flags.DEFINE_string(
  'workdir', None, 'run to export', flag_values=FLAGS
)
EXPORT_DIR = flags.DEFINE_string(
  'export_dir',
  None,
  'directory of the versions; its name is the model name',
  flag_values=FLAGS,
)
VERSION = flags.DEFINE_integer(
  'version',
  None,
  'version to write (unless set: the next one)',
  flag_values=FLAGS,
)
KEEP_VERSIONS = flags.DEFINE_integer(
  'keep_versions',
  None,
  'delete older versions; at least 2 stay',
  flag_values=FLAGS,
)
LIMIT = flags.DEFINE_integer(
  'max_new_tokens_limit',
  _DEFAULT.max_new_tokens_limit,
  'longest answer to allow',
  flag_values=FLAGS,
)
WEIGHTS = flags.DEFINE_string(
  'weights',
  _DEFAULT.weights,
  f'how to store the weights: {", ".join(STORED_WEIGHTS)}',
  flag_values=FLAGS,
)
COMPUTE_DTYPE = flags.DEFINE_string(
  'compute_dtype',
  _DEFAULT.compute_dtype,
  f'one of {", ".join(SERVED_DTYPES)}; auto: int8 for --weights=int8 where '
  'this machine is x86, else float32; bfloat16: for servers on x86 with '
  'AVX512-BF16 or AMX',
  flag_values=FLAGS,
)
STOP = flags.DEFINE_multi_string(
  'stop', [], 'text that ends every answer', flag_values=FLAGS
)
BATCH_SIZES = flags.DEFINE_list(
  'batch_sizes',
  list(map(str, _DEFAULT.batch_sizes)),
  'batch sizes that the server forms, and is warmed up for',
  flag_values=FLAGS,
)
EVAL_BATCHES = flags.DEFINE_integer(
  'eval_batches',
  _DEFAULT.eval_batches,
  'batches on which to measure the loss of smaller weights; 0: all the text',
  flag_values=FLAGS,
)
SERVING_CONFIG = flags.DEFINE_bool(
  'serving_config',
  False,
  "write the server's configuration and print its command line",
  flag_values=FLAGS,
)
XLA = flags.DEFINE_bool(
  'xla',
  False,
  'also export a compiled twin, as another model: EXPORT_DIR-xla',
  flag_values=FLAGS,
)
ATTENTION = flags.DEFINE_bool(
  'attention',
  False,
  'also export a signature that shows the attention weights',
  flag_values=FLAGS,
)
GRAMMAR = flags.DEFINE_multi_string(
  'grammar',
  [],
  'NAME=FILE.regex or NAME=FILE.schema.json: a grammar that requests can name, '
  'so that the answer matches it',
  flag_values=FLAGS,
)
FORMAT = flags.DEFINE_enum(
  'format',
  'savedmodel',
  ['savedmodel', 'stablehlo'],
  'what to write',
  flag_values=FLAGS,
)
PROMPT = flags.DEFINE_integer(
  'prompt_length',
  128,
  'tokens that a StableHLO function reads',
  flag_values=FLAGS,
)
NEW = flags.DEFINE_integer(
  'new_tokens',
  64,
  'tokens that a StableHLO function generates',
  flag_values=FLAGS,
)
