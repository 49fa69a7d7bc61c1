"""Systems that several experiments have, as the fields that are their own."""

BASE = {'train': {'method': 'none'}}
# The paper's rates; without the warm-up that DPO has.
SFT = {'train': {'method': 'sft', 'learning_rate': 5e-5, 'warmup_ratio': 0.0}}
CALM = {}
TABLE1 = {'base': BASE, 'sft': SFT, 'calm': CALM}
# Ground truth as the paper puts it; pair.gold=released is its code's rule.
GOLD = {
    'base': BASE,
    'sft_gold': {**SFT, 'pair': {'gold': 'paper'}},
    'dpo_gold': {'pair': {'gold': 'paper'}},
    'calm': CALM,
}
