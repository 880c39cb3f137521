"""What BERT learns from which task: masked words and next sentences removed one at a time, sizes, and a control.

Ours: the Brown corpus, with bits per character and accuracy on masked words of held-out documents, a probe of parts of
speech, and the class of headlines and of the subjects of mails from few labels; never fine-tuned.
Command: python launch.py table bert --scale=cpu --seeds=3
"""

from configs.tables._columns import PERCENT, SHARE

LABELS = (50, 500)
TASKS = {"headlines": "headlines", "spam_subjects": "spam subjects"}
BASELINES = {
    "untrained": "untrained",
    "naive_bayes": "naive Bayes",
    "minilm": "MiniLM",
}
BITS = {"unit": "", "better": "lower", "digits": 3, "range": (0.0, float("inf"))}


def get_table() -> dict:
    """The table."""
    return {
        "title": "What BERT learns from which task",
        "paper": "BERT, Devlin et al. 2018, arXiv 1810.04805",
        "number": "Table 5 and Table 6, in kind",
        "question": "Does predicting the next sentence add to filling in words, does size help, and does any of it "
        "need more than the frequencies of words?",
        "about": "One encoder, pretrained on Brown with a task removed, at three sizes, and on words in random order.",
        "setting": "BERT-base on Wikipedia and BooksCorpus, fine-tuned on GLUE and SQuAD",
        "command": "eval",
        "published_columns": {
            "mnli": {"title": "MNLI-m", "better": "higher", "unit": "%"},
            "qnli": {"title": "QNLI", "better": "higher", "unit": "%"},
            "mrpc": {"title": "MRPC", "better": "higher", "unit": "%"},
        },
        "columns": {**_words(), **_probes()},
        "rows": {
            "masked words and next sentence": {
                "overrides": {},
                "published": {"mnli": 84.4, "qnli": 88.4, "mrpc": 86.7},
                "source": "BERT, table 5, BERT-base",
            },
            "without next sentence": {
                "overrides": {"model.pairs": 0.0},
                "published": {"mnli": 83.9, "qnli": 84.9, "mrpc": 86.5},
                "source": "BERT, table 5, No NSP",
            },
            "without masked words": {"overrides": {"model.masked": 0.0}},
            "64 wide": {"overrides": {"model.transformer.width": 64}},
            "4 blocks": {"overrides": {"model.transformer.depth": 4}},
            "words in random order": {"overrides": {"data.shuffled": True}},
        },
        "conclusions": _conclusions(),
        "headline": lambda rows: (
            f"{rows['masked words and next sentence']['bits']:.2f} bits per character, unigrams "
            f"{rows['masked words and next sentence']['bits_unigram']:.2f}; parts of speech "
            f"{rows['masked words and next sentence']['tags']:.0f} %, in random order "
            f"{rows['words in random order']['tags']:.0f} %"
        ),
        "scales": SCALES,
    }


def _words() -> dict:
    """Columns of masked words and next sentences."""
    text = lambda name: (f"eval/text/{name}",)
    counts = {"unigram": "unigrams", "trigram": "trigrams with both neighbours"}
    columns = {
        "bits": {
            "title": "bits per character",
            "about": "of masked pieces of held-out documents",
            "path": text("bits_per_character"),
            **BITS,
        },
        **{
            f"bits_{name}": {
                "title": f"bits per character, {title}",
                "about": f"of the same pieces, by {title}",
                "path": text(f"{name}_bits_per_character"),
                "baseline_for": "bits",
                **BITS,
            }
            for name, title in counts.items()
        },
        "masked": {
            "title": "masked words",
            "about": "accuracy on masked pieces of held-out documents",
            "path": text("masked_accuracy"),
            **SHARE,
        },
        **{
            f"masked_{name}": {
                "title": f"masked words, {title}",
                "about": f"accuracy on the same pieces, of {title}",
                "path": text(f"{name}_masked_accuracy"),
                "baseline_for": "masked",
                **SHARE,
            }
            for name, title in counts.items()
        },
    }
    next_sentence = {
        "title": "next sentence",
        "about": "accuracy on held-out pairs, of which half are no neighbours",
        "path": text("pair_accuracy"),
        **SHARE,
    }
    guess = {
        "title": "next sentence, one answer",
        "about": "of whichever is more frequent",
        "path": text("pair_majority"),
        "baseline_for": "next",
        **SHARE,
    }
    return {**columns, "next": next_sentence, "next_majority": guess}


def _probes() -> dict:
    """Columns of what the encoder knows, by ridge regression on frozen features."""
    tags = {"episodes": ("eval/tags/num_test",), **PERCENT}
    columns = {
        "tags": {
            "title": "parts of speech",
            "about": "accuracy of a probe of a word's features, of 13 kinds",
            "path": ("eval/tags/accuracy",),
            **tags,
        },
        **{
            f"tags_{name}": {
                "title": f"parts of speech, {title}",
                "about": about,
                "path": (f"eval/tags/{name}",),
                "baseline_for": "tags",
                **tags,
            }
            for name, title, about in (
                ("untrained", "untrained", "the same of the initial weights"),
                ("word", "by word", "the kind that the word has most often in the probe's training words"),
            )
        },
    }
    few = {"episodes": ("eval/few_labels/num_test",), **PERCENT}
    for source, title in TASKS.items():
        for count in LABELS:
            own = f"{source}_{count}"
            columns[own] = {
                "title": f"{title}, {count} labels",
                "about": f"accuracy of a probe of mean features on {count} labels",
                "path": (f"eval/few_labels/{own}",),
                **few,
            }
            for name, short in BASELINES.items():
                columns[f"{own}_{name}"] = {
                    "title": f"{title}, {count} labels, {short}",
                    "about": f"the same labels, {short}",
                    "path": (f"eval/few_labels/{own}_{name}",),
                    "baseline_for": own,
                    **few,
                }
    return columns


def _conclusions() -> list[dict]:
    full, control = "masked words and next sentence", "words in random order"
    better = lambda rows, column, one, other: rows[one][column] > rows[other][column]
    return [
        {
            "text": "larger models fill in masked words better",
            "kind": "paper",
            "source": "BERT, section 5.2 and table 6",
            "holds": lambda rows: rows["4 blocks"]["bits"] < rows[full]["bits"] < rows["64 wide"]["bits"],
        },
        {
            "text": "predicting the next sentence helps to classify texts",
            "kind": "paper",
            "source": "BERT, section 5.1 and table 5",
            "holds": lambda rows: all(better(rows, f"{source}_500", full, "without next sentence") for source in TASKS),
        },
        {
            "text": "the model fills in words better than trigrams that know both neighbours",
            "kind": "ours",
            "holds": lambda rows: rows[full]["bits"] < rows[full]["bits_trigram"],
        },
        {
            "text": "parts of speech come from filling in words, not from predicting the next sentence",
            "kind": "ours",
            "holds": lambda rows: better(rows, "tags", full, "without masked words"),
        },
        {
            "text": "of words in random order nothing but their frequencies is learned",
            "kind": "ours",
            "holds": lambda rows: rows[control]["bits"] > 0.98 * rows[control]["bits_unigram"],
        },
        {
            "text": "with 50 labels pretraining beats the initial weights",
            "kind": "ours",
            "holds": lambda rows: all(rows[full][f"{s}_50"] > rows[full][f"{s}_50_untrained"] for s in TASKS),
        },
    ]


PROBES = {"eval.every": 0, "eval.probes.names": ("tags", "few_labels"), "eval.probes.labels": LABELS}
SCALES = {
    "smoke": {
        "about": "40 documents of Brown, two training steps of a tiny encoder: only shows that the table runs",
        "config": "configs/bert_mini.py:debug",
        "overrides": {
            **PROBES,
            "eval.probes.num_sentences": 40,
            "eval.probes.num_test": 100,
            "eval.probes.baselines": ("untrained", "counts"),
        },
    },
    "cpu": {
        "about": "Brown, 500 documents, 2,048 pieces, rows of 32 tokens; BERT-tiny's size, 128 wide with 2 blocks; "
        "3,000 steps of 64 rows; probes of 500 sentences, and of 1,000 texts with 50 or 500 labels",
        "config": "configs/bert_mini.py",
        "overrides": {
            **PROBES,
            # With 8,192 pieces, rows of 64 and 2e-3, 3,000 steps learn the frequencies of words alone.
            "data.vocabulary_size": 2_048,
            "data.text_length": 32,
            "model.transformer.width": 128,
            "model.transformer.depth": 2,
            "model.transformer.heads": 2,
            "train.num_steps": 3_000,
            "train.optimizer.warmup_steps": 200,
            "runtime.checkpoint_every": 3_000,
        },
    },
    "gpu": {
        "about": "Brown, 256 wide with 2 blocks; 20,000 steps of 256 rows of 128 tokens",
        "config": "configs/bert_mini.py",
        "overrides": {
            **PROBES,
            "model.transformer.depth": 2,
            "train.batch_size": 256,
            "train.num_steps": 20_000,
            "runtime.checkpoint_every": 20_000,
        },
    },
    "paper": {"about": "Wikipedia and BooksCorpus, BERT-base, a million steps of 256 rows of 512 tokens"},
}
