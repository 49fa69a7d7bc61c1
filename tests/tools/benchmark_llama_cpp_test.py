"""llama.cpp beside ours, with a stand-in for its server."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest

from tools import benchmark_llama_cpp, benchmark_sides
from tools import benchmark_llama_server as servers
from tools import benchmark_work as work

ROOT = pathlib.Path(__file__).parents[2]

# Says what it was asked; takes some time of a core for each token.
STUB = f"""#!{sys.executable}
import http.server, json, os, sys, time

flags = dict(zip(sys.argv[1::2], sys.argv[2::2]))
if flags['--model'].endswith('broken.gguf'):
  sys.exit('tensor 7 is missing')
folder = os.path.dirname(flags['--model'])

class Handler(http.server.BaseHTTPRequestHandler):
  def log_message(self, *args):
    pass

  def reply(self, found):
    text = json.dumps(found).encode()
    self.send_response(200 if 'error' not in found else 400)
    self.send_header('Content-Length', str(len(text)))
    self.end_headers()
    self.wfile.write(text)

  def do_GET(self):
    model = json.load(open(flags['--model']))
    self.reply({{
        '/health': {{}},
        '/v1/models': {{'data': [{{'meta': model}}]}},
        '/props': {{'build_info': 'b1-made-up'}},
    }}[self.path])

  def do_POST(self):
    body = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
    with open(os.path.join(folder, 'calls'), 'a') as f:
      f.write(json.dumps(body | {{'slots': flags['--parallel']}}) + '\\n')
    length, prompt = body['n_predict'], body['prompt']
    end = time.process_time() + 0.01
    while time.process_time() < end:
      pass
    if length == 13:
      return self.reply({{'error': 'no place left'}})
    length = min(length, 9)
    self.reply({{
        'tokens_evaluated': len(prompt),
        'tokens_predicted': length,
        'timings': {{
            'predicted_n': length,
            'prompt_n': 1 if body['cache_prompt'] else len(prompt),
        }},
    }})

address = ('127.0.0.1', int(flags['--port']))
http.server.ThreadingHTTPServer(address, Handler).serve_forever()
"""


@pytest.fixture
def program(tmp_path):
  path = tmp_path / 'llama-server'
  path.write_text(STUB)
  path.chmod(0o755)
  return str(path)


@pytest.fixture
def side(tmp_path, program):
  """Makes that side; its server's folder is tmp_path."""
  made = []

  def make(questions, *, dtype='bfloat16', name='model.gguf', **meta):
    gguf = tmp_path / name
    meta = {'n_vocab': 90, 'n_params': 1000, 'size': 2010} | meta
    gguf.write_text(json.dumps(meta))
    peer = work.Peer('x', {'vocab_size': 90}, 1.0, dtype, 'cpu', 1, 0)
    theirs = benchmark_llama_cpp.Generate(
        program, str(gguf), peer, questions, draws=DRAWS
    )
    made.append(theirs)
    return theirs

  yield make
  for theirs in made:
    theirs.close()


def calls(folder):
  lines = (folder / 'calls').read_text().splitlines()
  return [json.loads(line) for line in lines]


DRAWS = work.Draws(0.5, 7, 0.8)
QUESTIONS = [
    work.Question((3, 4, 5), (1, 2)),
    work.Question((6, 7), (3, 4)),
    work.Question((8, 9, 10, 11), (5, 6)),
]


def test_every_answer_is_drawn_once_at_its_length(tmp_path, side):
  theirs = side(QUESTIONS)
  theirs.start(2)
  (tmp_path / 'calls').unlink()
  run = theirs.run()
  asked = calls(tmp_path)
  assert sorted((tuple(c['prompt']), c['n_predict']) for c in asked) == sorted(
      (q.prompt, n) for q in QUESTIONS for n in q.answers
  )
  drawn = {'temperature': 0.5, 'top_k': 7, 'top_p': 0.8, 'ignore_eos': True}
  assert all(c.items() >= drawn.items() for c in asked)
  assert asked[0]['samplers'] == ['temperature', 'top_k', 'top_p']
  assert run.done == 21
  assert 0 < run.cpu_seconds
  assert 0.3 < run.details['slot_utilisation'] <= 1
  assert run.details['batch'] == 2


def test_a_slot_reads_a_prompt_once(tmp_path, side):
  theirs = side(QUESTIONS)
  theirs.start(1)
  (tmp_path / 'calls').unlink()
  run = theirs.run()
  cached = [(len(c['prompt']), c['cache_prompt']) for c in calls(tmp_path)]
  firsts = [(n, False) for n in (3, 2, 4)]
  assert cached[::2] == firsts
  assert cached[1::2] == [(n, True) for n, _ in firsts]
  assert run.details['prompt_tokens'] == 3 + 2 + 4 + 3


def test_more_slots_than_questions_share_their_answers():
  left = benchmark_llama_cpp.Answers(QUESTIONS)
  taken = [left.take(None) for _ in range(7)]
  assert [t and (t[0], t[2]) for t in taken] == [
      (0, 1),
      (1, 3),
      (2, 5),
      (0, 2),
      (1, 4),
      (2, 6),
      None,
  ]


class Fake:
  """A sampler whose rates are known."""

  def __init__(self):
    self.asked = []

  def start(self, size):
    self.size = size

  def run(self, every=1):
    self.asked.append((self.size, every))
    by_cpu = {1: 1.0, 2: 0.5, 3: 0.7}[self.size]
    return work.Run(self.size, by_cpu, 10)


def test_each_side_is_asked_in_the_same_way_for_its_best():
  """A pass over the work with each number, by CPU seconds or by the clock."""
  side = Fake()
  sizes = benchmark_sides.Sizes([1, 2, 3], every=2)
  best, rates = benchmark_sides.best('fake', side, sizes)
  assert side.asked == [(1, 2), (2, 2), (3, 2)]
  assert (best, rates['1'], rates['2']) == (2, 10.0, 20.0)
  by_clock = sizes._replace(by_clock=True)
  assert benchmark_sides.best('fake', side, by_clock)[0] == 1
  alone = benchmark_sides.Sizes([5])
  assert benchmark_sides.best('fake', Fake(), alone) == (5, {})


def test_the_number_of_slots_is_the_one_that_does_best(
    tmp_path, side, program, monkeypatch
):
  theirs = side(QUESTIONS)
  rates = {'1': 5.0, '2': 7.0}
  monkeypatch.setattr(benchmark_sides, 'best', lambda *args: (2, rates))
  gguf = str(tmp_path / 'model.gguf')
  with benchmark_sides.llama_cpp(
      (program, gguf),
      theirs.peer,
      QUESTIONS,
      sizes=benchmark_sides.Sizes([1, 2]),
      draws=DRAWS,
  ) as found:
    assert found.run().details['batch'] == 2
    assert found.peak_memory() > 1 << 20
    assert found.details == {
        'version': 'b1-made-up',
        'probe': {'every': 1, 'tokens_per_cpu_second': rates},
    }


def test_every_number_of_slots_is_tried(tmp_path, side):
  theirs = side(QUESTIONS)
  sizes = benchmark_sides.Sizes([1, 3])
  _, rates = benchmark_sides.best('llama.cpp', theirs, sizes)
  assert list(rates) == ['1', '3']
  assert min(rates.values()) > 0
  assert {c['slots'] for c in calls(tmp_path)} == {'1', '3'}


def test_a_probe_may_take_a_part_of_the_work(tmp_path, side):
  theirs = side(QUESTIONS)
  theirs.start(1)
  (tmp_path / 'calls').unlink()
  theirs.run(2)
  assert {len(c['prompt']) for c in calls(tmp_path)} == {3, 4}


def test_the_server_ends_with_the_benchmark(side):
  theirs = side(QUESTIONS)
  theirs.start(1)
  pid = theirs.started().pid
  assert servers.cpu_seconds(pid) > 0
  theirs.close()
  assert not pathlib.Path(f'/proc/{pid}').exists()


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'n_vocab': 91}, 'has a vocabulary of 91, the model one of 90'),
        ({'size': 530}, '0.53 bytes for each weight, --dtype=bfloat16 means 2'),
        ({'dtype': 'float32'}, '2.01 bytes .*, --dtype=float32 means 4'),
        ({'name': 'broken.gguf'}, 'did not start: tensor 7 is missing'),
    ],
)
def test_another_model_is_refused(side, changes, message):
  with pytest.raises(ValueError, match=message):
    side(QUESTIONS, **changes).start(1)


@pytest.mark.parametrize(
    ('length', 'message'),
    [
        (12, r'read and drew \(2, 9\) tokens, not \(2, 12\)'),
        (13, 'llama.cpp says 400 to /completion: .*no place left'),
    ],
)
def test_other_work_than_asked_for_is_an_error(side, length, message):
  theirs = side([work.Question((3, 4), (length,))])
  theirs.start(1)
  with pytest.raises(ValueError, match=message):
    theirs.run()


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (('--shape=tiny',), 'needs --model, --gguf'),
        (('--model=x', '--gguf=y', '--device=gpu'), 'and --device=cpu'),
        (('--model=x', '--gguf=y'), '--gguf=y is not a file: make one'),
        (
            ('--model=x', '--gguf=y', '--llama_server=not-there'),
            '--llama_server=not-there is not there: build llama.cpp',
        ),
        (('--model=x', '--job=training'), 'needs --job=sampling'),
    ],
)
def test_what_is_missing_is_told_before_anything_is_loaded(
    tmp_path, program, flags, message
):
  del program
  done = subprocess.run(
      [
          *(sys.executable, '-m', 'tools.benchmark', '--compare=llama_cpp'),
          *flags,
      ],
      cwd=ROOT,
      env=os.environ | {'PATH': f'{tmp_path}:{os.environ["PATH"]}'},
      capture_output=True,
      text=True,
      check=False,
  )
  assert done.returncode == 1
  assert message in ' '.join((done.stdout + done.stderr).split())
