"""Checks that answers match the grammars of an export."""

from dataclasses import replace

from minigpt.conformance.subject import (
  CheckError,
  CheckFunction,
  ModelUnderTest,
  NotApplicableError,
)
from minigpt.generation import grammar, regex_automaton
from minigpt.generation.generator import Generator
from minigpt.generation.grammar import Grammar
from minigpt.generation.request import Request
from minigpt.serving.client import generate, stream
from minigpt.serving.export_files import ExportFiles


def grammars(model: ModelUnderTest) -> str:
  """Checks that answers match their grammars, whole and streamed."""
  files = model.files
  if files.tokenizer is None:
    raise NotApplicableError('needs the tokenizer of the export')
  requests = _requests(model)
  context = files.context_length or model.ids.shape[1]
  known = ExportFiles('', files.tokenizer, context)
  prompts = [prompt.decode() for prompt in model.prompts]
  for each, request in requests:
    wanted = each.automaton()
    for i, answer in enumerate(generate(model.endpoint, prompts, request)):
      what = f'grammar {each.name}: row {i}'
      if not regex_automaton.matches(wanted, answer.text.encode()):
        raise CheckError(f'{what} is {answer.text!r:.60}, which does not match')
      own = replace(request, seed=request.seed + i)
      pieces = stream(model.endpoint, prompts[i], own, known)
      if ''.join(pieces) != answer.text:
        raise CheckError(f'{what} is streamed otherwise than generated')
  return f'{len(requests)} grammars'


def live_grammars(model: ModelUnderTest) -> str:
  """Compares answers under each grammar with those of the trained model."""
  ref = model.reference
  if model.files.compute_dtype != 'float32':
    dtype = model.files.compute_dtype
    raise NotApplicableError(f'texts can differ in {dtype}')
  requests = _requests(model)
  known = [each for each, _ in requests]
  live = Generator(
    ref.weights, ref.config, ref.tokenizer, 'graph', grammars=known
  )
  prompts = [prompt.decode() for prompt in model.prompts]
  for each, request in requests:
    served = generate(model.endpoint, prompts, request)
    for i, text in enumerate(live(prompts, request)):
      if served[i].text != text:
        raise CheckError(f'grammar {each.name}: row {i} is not {text!r:.60}')
  return f'{len(requests)} grammars'


def _requests(model: ModelUnderTest) -> list[tuple[Grammar, Request]]:
  """Returns the grammars of an export, and a request that names each."""
  listed, most = model.files.grammars, model.files.max_new_tokens
  return [
    (
      each,
      Request(
        min(listed[each.name]['least_tokens'] + 8, most),
        temperature=1.0,
        seed=5,
        grammar=each.name,
      ),
    )
    for each in grammar.from_card(listed)
  ]


# Of exports whose files are at hand and list grammars.
CHECKS: dict[str, CheckFunction] = {'grammars': grammars}
LIVE_CHECKS: dict[str, CheckFunction] = {'grammars, live': live_grammars}
