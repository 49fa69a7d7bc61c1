"""The other side of a benchmark: transformers' generate, and TRL with PEFT.

Runs in a process of its own, so that neither side's threads or memory disturb
or count for the other's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import tempfile
import time
from typing import Any

import tokenizers
import torch
import transformers

from tools import benchmark_work as work

_QUIET = 40  # logging.ERROR
# Ours warms up before a constant rate too.
_SCHEDULES = {
    'cosine': 'cosine',
    'linear': 'linear',
    'constant': 'constant_with_warmup',
}


class Generate:
  """transformers' generate: static batches, left padding, shared settings."""

  def __init__(
      self,
      peer: work.Peer,
      questions: Sequence[work.Question],
      *,
      draws: work.Draws,
  ):
    self._peer, self._model, self._batch = peer, _load(peer), 1
    self._model.eval()
    # Of like length in a batch: the least padding.
    self._questions = sorted(questions, key=lambda q: len(q.prompt))
    # What is None in the settings would be taken from the model's own.
    self._model.generation_config = transformers.GenerationConfig(
        do_sample=draws.temperature > 0,
        **(draws._asdict() if draws.temperature > 0 else {}),
        max_new_tokens=max(n for q in questions for n in q.answers),
        pad_token_id=work.PAD,
    )
    torch.manual_seed(peer.seed)

  def start(self, batch: int) -> None:
    """From now on with batches of so many answers; warms up with one."""
    self._batch = batch
    short = [
        work.Question(q.prompt, (1,) * len(q.answers))
        for q in self._questions[-max(1, batch // 3) :]
    ]
    self._run(short)

  def run(self, every: int = 1) -> work.Run:
    """A pass over all questions, or every so manieth."""
    return self._run(self._questions[::every])

  def peak_memory(self) -> int:
    return _peak_memory(self._peer)

  def _run(self, questions: Sequence[work.Question]) -> work.Run:
    _set_threads(self._peer)
    size = max(1, self._batch // len(questions[0].answers))
    real = padded = slot_steps = 0
    start, cpu = time.monotonic(), time.process_time()
    # Longest first, as many schedulers do: memory runs out early or never.
    for i in reversed(range(0, len(questions), size)):
      group = questions[i : i + size]
      width = self._generate(group)
      rows = sum(len(q.answers) for q in group)
      real += sum(len(q.prompt) * len(q.answers) for q in group)
      padded += rows * width
      slot_steps += rows * max(max(q.answers) for q in group)
    _synchronize(self._peer)
    drawn = sum(sum(q.answers) for q in questions)
    return work.Run(
        time.monotonic() - start,
        time.process_time() - cpu,
        drawn,
        {
            'slot_utilisation': drawn / slot_steps,
            'padding': 1 - real / padded,
            'batch': self._batch,
        },
    )

  def _generate(self, group: Sequence[work.Question]) -> int:
    """Draws one batch of answers; returns the padded length of its prompts."""
    width = max(len(q.prompt) for q in group)
    gaps = [width - len(q.prompt) for q in group]
    ids = [
        [work.PAD] * gap + list(q.prompt)
        for gap, q in zip(gaps, group, strict=True)
    ]
    mask = [[0] * gap + [1] * (width - gap) for gap in gaps]
    limits = torch.tensor([n for q in group for n in q.answers])
    limits = limits.to(self._model.device)

    class Limits(transformers.StoppingCriteria):

      def __call__(self, input_ids, scores, **kwargs):
        return input_ids.shape[1] - width >= limits

    with torch.inference_mode():
      out = self._model.generate(
          torch.tensor(ids, device=self._model.device),
          attention_mask=torch.tensor(mask, device=self._model.device),
          num_return_sequences=len(group[0].answers),
          stopping_criteria=transformers.StoppingCriteriaList([Limits()]),
      )
    drawn = out.shape[1] - width
    if drawn != max(limits.tolist()):
      raise RuntimeError(f'generate drew {drawn} tokens, not {max(limits)}')
    return width


class Dpo:
  """TRL's DPOTrainer with a PEFT adapter; the reference is precomputed."""

  def __init__(
      self,
      peer: work.Peer,
      pairs: Sequence[work.Pair],
      *,
      lora: Mapping[str, Any],
      train: Mapping[str, Any],
  ):
    # Only here: transformers' generate is compared with them or without.
    import datasets
    import peft
    from trl.trainer import dpo_config, dpo_trainer

    self._peer, self._clock = peer, _Clock(peer)
    self._pairs, self._batch = pairs, train['batch_size']
    self._accumulation = train['accumulation']
    _set_threads(peer)
    self._folder = tempfile.TemporaryDirectory()
    self._trainer = dpo_trainer.DPOTrainer(
        model=_load(peer),
        args=dpo_config.DPOConfig(
            output_dir=self._folder.name,
            per_device_train_batch_size=self._batch,
            gradient_accumulation_steps=self._accumulation,
            num_train_epochs=1,
            learning_rate=train['learning_rate'],
            lr_scheduler_type=_SCHEDULES[train['schedule']],
            warmup_steps=train['warmup_ratio'],
            adam_beta1=train['adam_b1'],
            adam_beta2=train['adam_b2'],
            adam_epsilon=train['adam_eps'],
            weight_decay=train['weight_decay'],
            max_grad_norm=train['clip_norm'],
            beta=train['beta'],
            label_smoothing=train['label_smoothing'],
            precompute_ref_log_probs=True,
            gradient_checkpointing=train['remat'] == 'full',
            bf16=peer.dtype == 'bfloat16',
            use_cpu=peer.device == 'cpu',
            save_strategy='no',
            logging_strategy='no',
            report_to='none',
            disable_tqdm=True,
            seed=peer.seed,
        ),
        train_dataset=datasets.Dataset.from_list(
            [{k: _text(v) for k, v in p._asdict().items()} for p in pairs]
        ),
        processing_class=_tokenizer(peer.config['vocab_size']),
        peft_config=peft.LoraConfig(
            r=lora['rank'],
            lora_alpha=lora['alpha'],
            target_modules=list(lora['targets']),
            task_type='CAUSAL_LM',
        ),
        callbacks=[self._clock],
    )
    self._trainer.remove_callback(transformers.PrinterCallback)
    model: Any = self._trainer.model
    self._trained = model.num_parameters(only_trainable=True)
    self._check()

  def warm_up(self) -> None:
    """One pass forwards and backwards, its gradient thrown away."""
    _set_threads(self._peer)
    model: Any = self._trainer.model
    inputs = next(iter(self._trainer.get_train_dataloader()))
    self._trainer.compute_loss(model, inputs).backward()
    model.zero_grad()

  def run(self) -> work.Run:
    _set_threads(self._peer)
    self._trainer.train()
    (start, cpu_start), (end, cpu_end) = self._clock.span
    return work.Run(
        end - start,
        cpu_end - cpu_start,
        len(self._pairs),
        {
            'steps': self._trainer.state.global_step,
            'trained_parameters': self._trained,
            'batch': self._batch,
        },
    )

  def peak_memory(self) -> int:
    return _peak_memory(self._peer)

  def _check(self) -> None:
    """TRL must train on the same ids: its tokenizing is not ours."""
    row = self._trainer.train_dataset[0]
    names = ('prompt_ids', 'chosen_ids', 'rejected_ids')
    seen = tuple(tuple(row[name]) for name in names)
    if seen != tuple(self._pairs[0]):
      raise RuntimeError(f'TRL made {seen} of {self._pairs[0]}')


class _Clock(transformers.TrainerCallback):
  """When the first step began and the last one ended."""

  def __init__(self, peer: work.Peer):
    self._peer = peer
    self.span = [(0.0, 0.0), (0.0, 0.0)]

  def on_train_begin(self, args, state, control, **kwargs):
    self.span[0] = self._now()

  def on_train_end(self, args, state, control, **kwargs):
    self.span[1] = self._now()

  def _now(self) -> tuple[float, float]:
    _synchronize(self._peer)
    return time.monotonic(), time.process_time()


def _load(peer: work.Peer) -> Any:
  transformers.logging.set_verbosity(_QUIET)
  _set_threads(peer)
  dtype = {'float32': torch.float32, 'bfloat16': torch.bfloat16}[peer.dtype]
  device = torch.device('cuda' if peer.device == 'gpu' else 'cpu')
  auto = transformers.AutoModelForCausalLM
  if peer.folder is not None:
    model: Any = auto.from_pretrained(peer.folder, dtype=dtype)
    return model.to(device)
  torch.manual_seed(peer.seed)
  with device:
    config = dict(peer.config)
    kind = config.pop('model_type')
    model = auto.from_config(
        transformers.AutoConfig.for_model(kind, **config), dtype=dtype
    )
  with torch.no_grad():
    model.model.norm.weight.fill_(peer.norm)
  return model


def _set_threads(peer: work.Peer) -> None:
  # OpenMP counts threads per calling thread, and each call may be another.
  if peer.threads:
    torch.set_num_threads(peer.threads)


def _synchronize(peer: work.Peer) -> None:
  if peer.device == 'gpu':
    torch.cuda.synchronize()


def _peak_memory(peer: work.Peer) -> int:
  if peer.device == 'gpu':
    return torch.cuda.max_memory_allocated()
  return work.peak_resident()


def _word(token: int) -> str:
  # None is the beginning of another: the special ones are cut out of text.
  return f'<{token}>'


def _text(ids: Sequence[int]) -> str:
  return ''.join(f' {_word(i)}' for i in ids)


def _tokenizer(vocab_size: int) -> transformers.PreTrainedTokenizerFast:
  """One word per id: TRL wants text, and both sides must get the same ids."""
  built = tokenizers.Tokenizer(
      tokenizers.models.WordLevel(
          {_word(i): i for i in range(vocab_size)}, unk_token=_word(work.PAD)
      )
  )
  built.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
  return transformers.PreTrainedTokenizerFast(
      tokenizer_object=built,
      pad_token=_word(work.PAD),
      eos_token=_word(work.EOS),
  )
