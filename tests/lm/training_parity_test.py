"""Losses, gradients, rewards and a run against TRL and PEFT, in float32."""

from __future__ import annotations

import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import numpy as safetensors

torch = pytest.importorskip('torch', reason='parity needs torch')
datasets = pytest.importorskip('datasets', reason='parity needs datasets')
peft = pytest.importorskip('peft', reason='parity needs peft')
trl = pytest.importorskip('trl', reason='parity needs trl')
cpo = pytest.importorskip('trl.experimental.cpo', reason='parity needs its CPO')
transformers = pytest.importorskip('transformers')

import tokenizers  # noqa: E402
from torch.utils import data as torch_data  # noqa: E402

from calm_jax.lm import batches, decoder, sharding, training, weights  # noqa: E402
from calm_jax.lm import lora as lora_lib  # noqa: E402
from calm_jax.lm import losses as losses_lib  # noqa: E402
from calm_jax.lm import optimizer as optimizers  # noqa: E402

# TRL, PEFT and torch warn of themselves.
pytestmark = [
    pytest.mark.parity,
    pytest.mark.slow,
    pytest.mark.filterwarnings('ignore'),
]

WORDS = ['<pad>', '<eos>', *(f'w{i}' for i in range(94))]
BETA, RATE, STEPS, BATCH, ACCUMULATION = 0.1, 1e-2, 20, 2, 2
LORA = lora_lib.LoraConfig(4, 8.0, ('q_proj', 'v_proj'))
LORA_ALL = lora_lib.LoraConfig(3, 6.0, tuple(decoder.PROJECTIONS))
SHAPE = batches.Shape(34, 22)


@pytest.fixture(scope='module')
def base(tmp_path_factory):
  """A folder with a tiny random Llama, drawn wide so that losses move."""
  folder = tmp_path_factory.mktemp('llama')
  torch.manual_seed(0)
  config = transformers.LlamaConfig(
      vocab_size=len(WORDS),
      hidden_size=32,
      intermediate_size=64,
      num_hidden_layers=2,
      num_attention_heads=4,
      num_key_value_heads=2,
      max_position_embeddings=128,
      initializer_range=0.2,
      pad_token_id=0,
      eos_token_id=1,
      bos_token_id=None,
  )
  transformers.LlamaForCausalLM(config).save_pretrained(folder)
  return folder


@pytest.fixture(scope='module')
def tokenizer():
  ids = {word: i for i, word in enumerate(WORDS)}
  built = tokenizers.Tokenizer(
      tokenizers.models.WordLevel(ids, unk_token='<pad>')
  )
  built.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
  return transformers.PreTrainedTokenizerFast(
      tokenizer_object=built, pad_token='<pad>', eos_token='<eos>'
  )


def _texts(count, sides):
  rng = np.random.default_rng(0)

  def words(low, high):
    ids = rng.integers(0, 94, rng.integers(low, high))
    return ' '.join(f'w{i}' for i in ids)

  return [
      {'prompt': words(3, 12)}
      | {side: f' {words(1, 10)} <eos>' for side in sides}
      for _ in range(count)
  ]


def _rows(texts):
  ids = lambda text: tuple(WORDS.index(word) for word in text.split())
  return [
      batches.Row(
          ids(t['prompt']), tuple(ids(t[k]) for k in t if k != 'prompt')
      )
      for t in texts
  ]


def _trainer(base, tokenizer, texts, tmp_path, **changes):
  """TRL's own trainer, which reads `texts` in order."""
  sft = 'completion' in texts[0]
  if sft:
    kind, config = trl.SFTTrainer, trl.SFTConfig
  elif changes.get('loss_type') == 'simpo':
    kind, config = cpo.CPOTrainer, cpo.CPOConfig
  else:
    kind, config = trl.DPOTrainer, trl.DPOConfig

  class InOrder(kind):

    def _get_train_sampler(self, *args, **kwargs):
      return torch_data.SequentialSampler(self.train_dataset)

  settings = {
      'output_dir': str(tmp_path / 'trl'),
      'per_device_train_batch_size': BATCH,
      'gradient_accumulation_steps': ACCUMULATION,
      'num_train_epochs': 1,
      'learning_rate': RATE,
      'lr_scheduler_type': 'cosine',
      'warmup_steps': 0.1,
      'max_grad_norm': 1.0,
      'logging_steps': 1,
      'save_strategy': 'no',
      'report_to': 'none',
      'use_cpu': True,
      'bf16': False,
      'gradient_checkpointing': False,
      'disable_tqdm': True,
  }
  settings |= {} if sft else {'beta': BETA}
  return InOrder(
      model=transformers.AutoModelForCausalLM.from_pretrained(
          base, dtype=torch.float32
      ),
      args=config(**(settings | changes)),
      train_dataset=datasets.Dataset.from_list(texts),
      processing_class=tokenizer,
      peft_config=peft.LoraConfig(
          r=LORA.rank,
          lora_alpha=LORA.alpha,
          target_modules=list(LORA.targets),
          task_type='CAUSAL_LM',
      ),
  )


def _randomise_b(model):
  generator = torch.Generator().manual_seed(1)
  for name, parameter in model.named_parameters():
    if 'lora_B' in name:
      noise = torch.randn(parameter.shape, generator=generator)
      parameter.data.copy_(0.3 * noise)


def _ours(base, model, tmp_path):
  """Our configuration, base parameters and factors of a PEFT model."""
  model.save_pretrained(tmp_path / 'adapter')
  cfg = weights.read_config(base)
  params = weights.load(base, cfg, dtype='float32')
  lora, lora_cfg = lora_lib.load_peft(tmp_path / 'adapter', cfg)
  assert lora_cfg == LORA
  return cfg, params, lora


def _gradients_as_peft(grads, tmp_path):
  """Our gradients by PEFT's names, laid out as its parameters are."""
  lora_lib.save_peft(tmp_path / 'grads', grads, LORA, base_model='')
  return safetensors.load_file(tmp_path / 'grads' / lora_lib.WEIGHTS)


def _assert_same_gradients(grads, model, tmp_path):
  """Of every factor, in PEFT's model and in ours."""
  mine = _gradients_as_peft(grads, tmp_path)
  compared = 0
  for name, parameter in model.named_parameters():
    if parameter.requires_grad:
      grad = parameter.grad.numpy()
      np.testing.assert_allclose(
          mine[name.replace('.default', '')],
          grad,
          rtol=1e-4,
          atol=1e-4 * np.abs(grad).max(),
          err_msg=name,
      )
      compared += 1
  assert compared == len(mine) == 8


def _mesh():
  return sharding.make_mesh(1, 1, 1, devices=jax.devices()[:1])


def _with_reference(cfg, params, objective, rows):
  index_N1 = np.arange(len(rows))[:, None]
  batch = batches.build(rows, index_N1, SHAPE)
  program = training.make_reference(cfg, objective, _mesh())
  return np.asarray(program(None, params, batch))


@pytest.mark.parametrize('sides', [('chosen', 'rejected'), ('completion',)])
def test_one_batch(base, tokenizer, tmp_path, sides):
  """Loss, rewards and the gradient of every factor, rejected side and all."""
  texts = _texts(6, sides)
  trainer = _trainer(
      base, tokenizer, texts, tmp_path, per_device_train_batch_size=6
  )
  _randomise_b(trainer.model)
  cfg, params, lora = _ours(base, trainer.model, tmp_path)
  trainer.model.train()
  (inputs,) = trainer.get_train_dataloader()
  loss = trainer.compute_loss(trainer.model, inputs)
  loss.backward()

  method = 'dpo' if len(sides) == 2 else 'sft'
  objective = training.Objective(method, LORA.scale, BETA, chunk=4)
  rows = _rows(texts)
  ref_N2 = _with_reference(cfg, params, objective, rows)
  batch = batches.build(rows, np.arange(6)[:, None], SHAPE, ref_N2)

  def ours(lora):
    means = training.batch_means(cfg, objective, params, lora, batch)
    return means['loss'].total / means['loss'].count, means

  grads, means = jax.jit(jax.grad(ours, has_aux=True))(lora)
  means = training.merge_means([means])
  assert means['loss'] == pytest.approx(float(loss), rel=1e-4)
  theirs = trainer._metrics['train']
  for name in means.keys() - {'loss'}:
    assert means[name] == pytest.approx(theirs[name][0], rel=1e-4), name
  _assert_same_gradients(grads, trainer.model, tmp_path)
  if method == 'dpo':
    assert abs(means['rewards/margins']) > 0.01


@pytest.mark.parametrize(
    ('ours', 'theirs'),
    [
        ({'loss': 'ipo'}, {'loss_type': ['ipo']}),
        ({'loss': 'hinge'}, {'loss_type': ['hinge']}),
        (
            {'loss': 'robust', 'label_smoothing': 0.2},
            {'loss_type': ['robust'], 'label_smoothing': 0.2},
        ),
        (
            {'loss': 'sigmoid', 'sft_weight': 0.7},
            {'loss_type': ['sigmoid', 'sft'], 'loss_weights': [1.0, 0.7]},
        ),
        (
            {'loss': 'simpo', 'simpo_gamma': 0.8},
            {'loss_type': 'simpo', 'simpo_gamma': 0.8, 'cpo_alpha': 0.0},
        ),
    ],
    ids=lambda changes: changes.get('loss', ''),
)
def test_other_losses(base, tokenizer, tmp_path, ours, theirs):
  """Loss, rewards and gradients; TRL is given one pair at a time."""
  texts = _texts(6, ('chosen', 'rejected'))
  # The SFT term of a larger batch would be the mean over all its tokens.
  theirs = theirs | {'per_device_train_batch_size': 1, 'beta': 0.5}
  trainer = _trainer(base, tokenizer, texts, tmp_path, **theirs)
  _randomise_b(trainer.model)
  cfg, params, lora = _ours(base, trainer.model, tmp_path)
  trainer.model.train()
  expected = []
  for inputs in trainer.get_train_dataloader():
    loss = trainer.compute_loss(trainer.model, inputs)
    (loss / 6).backward()
    expected.append(float(loss))

  objective = training.Objective('dpo', LORA.scale, 0.5, chunk=4, **ours)
  rows, ref_N2 = _rows(texts), None
  if objective.has_reference:
    ref_N2 = _with_reference(cfg, params, objective, rows)
  batch = batches.build(rows, np.arange(6)[:, None], SHAPE, ref_N2)

  def mean(lora):
    means = training.batch_means(cfg, objective, params, lora, batch)
    return means['loss'].total / means['loss'].count, means

  grads, means = jax.jit(jax.grad(mean, has_aux=True))(lora)
  means = training.merge_means([means])
  assert len(expected) == 6
  assert means['loss'] == pytest.approx(np.mean(expected), rel=1e-4)
  simpo = objective.loss == 'simpo'
  logged = (trainer._stored_metrics if simpo else trainer._metrics)['train']
  for name in ('chosen', 'rejected', 'margins', 'accuracies'):
    name = f'rewards/{name}'
    assert means[name] == pytest.approx(np.mean(logged[name]), rel=1e-4), name
  _assert_same_gradients(grads, trainer.model, tmp_path)


def test_label_smoothing_by_trls_arithmetic():
  """TRL smooths labels in CPO; with gains for log-probabilities that is DPO."""
  chosen_B, rejected_B = np.float32([[3, -1, 0.2], [1, 2, 0.1]])
  options = {'beta': 0.5, 'label_smoothing': 0.2}
  trainer = types.SimpleNamespace(
      alpha=0.0,
      loss_type='sigmoid',
      accelerator=types.SimpleNamespace(device='cpu'),
      **options,
  )
  theirs, *_ = cpo.CPOTrainer.cpo_loss(
      trainer, torch.tensor(chosen_B), torch.tensor(rejected_B)
  )
  ours = losses_lib.dpo_loss(0.5 * (chosen_B - rejected_B), label_smoothing=0.2)
  np.testing.assert_allclose(ours, theirs, rtol=1e-4)


@pytest.mark.parametrize('sides', [('chosen', 'rejected'), ('completion',)])
def test_twenty_steps(base, tokenizer, tmp_path, sides):
  """The same curve: data order, accumulation, schedule, clipping and Adam."""
  size = BATCH * ACCUMULATION
  texts = _texts(2 * size, sides) * (STEPS // 2)
  trainer = _trainer(base, tokenizer, texts, tmp_path)
  cfg, params, lora = _ours(base, trainer.model, tmp_path)
  trainer.train()
  history = [line for line in trainer.state.log_history if 'loss' in line]

  method = 'dpo' if len(sides) == 2 else 'sft'
  objective = training.Objective(method, LORA.scale, BETA)
  schedule = optimizers.make_schedule(
      'cosine', peak=RATE, warmup_ratio=0.1, steps=STEPS
  )
  optimizer = optimizers.adamw(
      schedule, b1=0.9, b2=0.999, eps=1e-8, weight_decay=0.0, clip_norm=1.0
  )
  step = training.make_step(cfg, objective, optimizer, _mesh())
  rows = _rows(texts)
  ref_N2 = _with_reference(cfg, params, objective, rows)
  state = training.TrainState(jnp.int32(0), lora, optimizer.init(lora))
  losses = []
  for n in range(STEPS):
    index_ABP = (n * size + np.arange(size)).reshape(ACCUMULATION, BATCH, 1)
    batch = batches.build(rows, index_ABP, SHAPE, ref_N2)
    state, means = step(state, params, batch)
    means = training.merge_means([means])
    losses.append(means['loss'])
    line = history[n]
    assert means['loss'] == pytest.approx(line['loss'], abs=1e-3), n
    assert means['grad_norm'] == pytest.approx(line['grad_norm'], rel=2e-2), n
    for name in ('rewards/margins', 'rewards/chosen', 'rewards/rejected'):
      if name in means:
        assert means[name] == pytest.approx(line[name], abs=5e-3), (n, name)
  if method == 'dpo':
    assert losses[0] == pytest.approx(math.log(2), abs=1e-6)
  # The run went somewhere: this is no comparison of flat lines.
  assert losses[-1] < losses[0] - 0.2


def _logits(cfg, params, lora, tokens):
  positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
  mask = decoder.causal_mask(cfg, positions, positions)

  @jax.jit
  def run(params, lora):
    scaled = lora_lib.scaled(lora, LORA_ALL.scale)
    hidden, _ = decoder.forward(
        cfg, params, tokens, positions, mask, lora=scaled
    )
    return decoder.unembed(cfg, params, hidden)

  return np.asarray(run(params, lora))


def _random_lora(cfg):
  rng = np.random.default_rng(3)
  like = jax.eval_shape(lambda: lora_lib.init(cfg, LORA_ALL, jax.random.key(0)))
  return jax.tree.map(
      lambda x: jnp.asarray(0.2 * rng.standard_normal(x.shape), jnp.float32),
      like,
  )


def test_our_adapter_in_peft(base, tmp_path):
  """All seven projections."""
  cfg = weights.read_config(base)
  params = weights.load(base, cfg, dtype='float32')
  lora = _random_lora(cfg)
  lora_lib.save_peft(tmp_path, lora, LORA_ALL, base_model=str(base))
  model = peft.AutoPeftModelForCausalLM.from_pretrained(tmp_path)
  tokens = np.random.default_rng(0).integers(0, len(WORDS), (2, 9))
  with torch.no_grad():
    theirs = model(torch.tensor(tokens)).logits.numpy()
  ours = _logits(cfg, params, lora, tokens)
  np.testing.assert_allclose(ours, theirs, atol=1e-4)
  plain = _logits(cfg, params, jax.tree.map(jnp.zeros_like, lora), tokens)
  assert np.abs(plain - ours).max() > 1


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_pefts_adapter_in_ours(base, tmp_path, dtype):
  torch.manual_seed(5)
  model = peft.get_peft_model(
      transformers.AutoModelForCausalLM.from_pretrained(base),
      peft.LoraConfig(
          r=LORA_ALL.rank,
          lora_alpha=LORA_ALL.alpha,
          target_modules='all-linear',
          task_type='CAUSAL_LM',
      ),
  )
  _randomise_b(model)
  for name, parameter in model.named_parameters():
    if 'lora_' in name:
      parameter.data = parameter.data.to(dtype).to(torch.float32)
  tokens = np.random.default_rng(0).integers(0, len(WORDS), (2, 9))
  with torch.no_grad():
    theirs = model(torch.tensor(tokens)).logits.numpy()
  for name, parameter in model.named_parameters():
    if 'lora_' in name:
      parameter.data = parameter.data.to(dtype)
  model.save_pretrained(tmp_path)
  cfg = weights.read_config(base)
  params = weights.load(base, cfg, dtype='float32')
  lora, lora_cfg = lora_lib.load_peft(tmp_path, cfg)
  assert lora_cfg == LORA_ALL
  ours = _logits(cfg, params, lora, tokens)
  np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_initialisation_is_distributed_as_pefts(base):
  """The same bound: uniform up to 1 / sqrt(inputs), and nothing in B."""
  model = peft.get_peft_model(
      transformers.AutoModelForCausalLM.from_pretrained(base),
      peft.LoraConfig(r=64, target_modules=['down_proj']),
  )
  theirs, b = (
      p.detach()
      for n, p in model.named_parameters()
      if '0.mlp' in n and 'lora' in n
  )
  cfg = weights.read_config(base)
  wide = lora_lib.LoraConfig(64, 8.0, ('down_proj',))
  ours = lora_lib.init(cfg, wide, jax.random.key(0))['layers'][0]['down_proj']
  assert not b.any()
  assert not ours['b'].any()
  a = np.asarray(ours['a'])
  assert a.std() == pytest.approx(float(theirs.std()), rel=0.05)
  assert np.abs(a).max() == pytest.approx(float(theirs.abs().max()), rel=0.01)


def test_smoothed_labels_in_a_trainer(base, tokenizer, tmp_path):
  """TRL's DPO smooths in AOT alone, which of a single pair is DPO itself."""
  smoothing = {'label_smoothing': 0.2}
  ours = {'loss': 'sigmoid', **smoothing}
  theirs = {'loss_type': ['aot'], **smoothing}
  test_other_losses(base, tokenizer, tmp_path, ours, theirs)
