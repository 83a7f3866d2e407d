"""Renders the messages of a chat to a prompt.

Chat templates, as published with models (`chat_template` in Hugging Face's
files), are written in Jinja. Only this module imports it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from minigpt.errors import InputError

Messages = Sequence[dict[str, str]]


def load(path: str | Path) -> Callable[[Messages], str]:
  """Returns the function of a template file, from messages to a prompt.

  The template gets `messages`, and `add_generation_prompt`, which is true.

  Raises:
    InputError: the file cannot be read, is no template, or Jinja is missing.
  """
  try:
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment
  except ImportError as error:
    raise InputError(f"{error}; pip install 'minigpt[serve]'") from None
  # Sandboxed, as templates come with models from other sources.
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
