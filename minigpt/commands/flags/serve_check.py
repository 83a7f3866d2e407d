"""Flags of `minigpt serve-check`."""

from absl import flags

FLAGS = flags.FlagValues()
EXPORT_DIR = flags.DEFINE_string(
  'export_dir', None, 'a version to check', flag_values=FLAGS
)
WORKDIR = flags.DEFINE_string(
  'workdir',
  None,
  'the run it was exported from, to compare with',
  flag_values=FLAGS,
)
TARGET = flags.DEFINE_string(
  'target', None, 'a server to check, as host:port', flag_values=FLAGS
)
MODEL_NAME = flags.DEFINE_string(
  'model_name', None, 'its name for the model', flag_values=FLAGS
)
PROTOCOL = flags.DEFINE_string(
  'protocol', 'grpc', "'grpc' or 'rest'", flag_values=FLAGS
)
COMPUTE_DTYPE = flags.DEFINE_string(
  'compute_dtype',
  None,
  "the export's --compute_dtype, with --target (default: that of the card in "
  '--export_dir, else float32)',
  flag_values=FLAGS,
)
SERVER_PYTHON = flags.DEFINE_string(
  'server_python',
  None,
  "interpreter that runs the export, with the server's version of TensorFlow "
  '(default: this one)',
  flag_values=FLAGS,
)
TIMEOUT = flags.DEFINE_float(
  'timeout', 300.0, 'seconds to wait for an answer', flag_values=FLAGS
)
LOAD_TEST = flags.DEFINE_bool(
  'load_test', False, 'measure the server under load instead', flag_values=FLAGS
)
CONCURRENCY = flags.DEFINE_integer(
  'concurrency', 4, 'requests at a time, up to 1024', flag_values=FLAGS
)
REQUESTS = flags.DEFINE_integer(
  'requests', 100, 'requests in all', flag_values=FLAGS
)
MAX_NEW_TOKENS = flags.DEFINE_integer(
  'max_new_tokens',
  32,
  'tokens that each request of a load test asks for',
  flag_values=FLAGS,
)
JSON = flags.DEFINE_bool(
  'json', False, 'print one JSON object, nothing else', flag_values=FLAGS
)
