"""From the messages of a chat to the text that a model continues.

The one module that imports Jinja, the language of the templates that models are
published with (`chat_template` in Hugging Face's files).
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from minigpt.errors import InputError

Messages = Sequence[dict[str, str]]


def load(path: str | Path) -> Callable[[Messages], str]:
  """Returns the function that a template file describes.

  It sees `messages`, and `add_generation_prompt`, which is true.

  Raises:
    InputError: the file can't be read, is no template, or Jinja is missing.
  """
  try:
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment
  except ImportError as error:
    raise InputError(f"{error}; pip install 'minigpt[serve]'") from None
  # A template comes with a model, so it may do no more than format.
  sandbox = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
  try:
    template = sandbox.from_string(Path(path).read_text(encoding='utf-8'))
  except (OSError, UnicodeDecodeError, jinja2.TemplateError) as error:
    raise InputError(f'{path}: no chat template ({error})') from None

  def render(messages: Messages) -> str:
    try:
      return template.render(messages=messages, add_generation_prompt=True)
    except jinja2.TemplateError as error:
      raise InputError(f'the chat template fails: {error}') from None

  return render
