"""Flags of `minigpt serve`."""

from absl import flags

FLAGS = flags.FlagValues()
EXPORT_DIR = flags.DEFINE_string(
  'export_dir',
  None,
  'a model, or one of its versions; of several the newest is served',
  flag_values=FLAGS,
)
TARGET = flags.DEFINE_string(
  'target',
  None,
  'a TensorFlow Serving server that computes instead, as host:port; '
  '--export_dir is then read for the tokenizer alone',
  flag_values=FLAGS,
)
PROTOCOL = flags.DEFINE_string(
  'protocol', 'grpc', "of the target: 'grpc' or 'rest'", flag_values=FLAGS
)
TIMEOUT = flags.DEFINE_float(
  'timeout', 300.0, 'seconds to wait for the target', flag_values=FLAGS
)
MODEL_NAME = flags.DEFINE_string(
  'model_name',
  None,
  "name of the model, for clients and the target (default: the export's)",
  flag_values=FLAGS,
)
CHAT_TEMPLATE = flags.DEFINE_string(
  'chat_template',
  None,
  'file with a Jinja template, from the messages of a chat to a prompt',
  flag_values=FLAGS,
)
STOP = flags.DEFINE_multi_string(
  'stop', [], 'text that ends every answer', flag_values=FLAGS
)
HOST = flags.DEFINE_string(
  'host', '127.0.0.1', 'address to listen on; 0.0.0.0: all', flag_values=FLAGS
)
PORT = flags.DEFINE_integer(
  'port', 8000, 'port to listen on; 0: a free one', flag_values=FLAGS
)
MAX_BATCH = flags.DEFINE_integer(
  'max_batch', 8, 'answers generated together', flag_values=FLAGS
)
MAX_WAITING = flags.DEFINE_integer(
  'max_waiting', 256, 'answers that may wait; others get 429', flag_values=FLAGS
)
MAX_CONNECTIONS = flags.DEFINE_integer(
  'max_connections',
  1024,
  'connections and requests at a time; others get 503',
  flag_values=FLAGS,
)
MAX_BODY_BYTES = flags.DEFINE_integer(
  'max_body_bytes', 1 << 20, 'longer bodies get 413', flag_values=FLAGS
)
MAX_PROMPT_TOKENS = flags.DEFINE_integer(
  'max_prompt_tokens',
  None,
  'longer prompts get 400 (default: the context of the model); the model reads '
  'only the end of a prompt longer than its context',
  flag_values=FLAGS,
)
MAX_TOKENS = flags.DEFINE_integer(
  'max_tokens', 4096, 'the most that a request may ask for', flag_values=FLAGS
)
CHUNK = flags.DEFINE_integer(
  'chunk',
  16,
  'tokens generated before answers join or leave the batch: fewer give shorter '
  'waits, more a higher rate',
  flag_values=FLAGS,
)
GRACE_SECONDS = flags.DEFINE_integer(
  'grace_seconds',
  30,
  'seconds that answers may take to finish after SIGTERM',
  flag_values=FLAGS,
)
