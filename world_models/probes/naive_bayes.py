"""Naive Bayes of words: what a text's class can be told from without any order."""

import re
from collections.abc import Sequence

import numpy as np

_WORD = re.compile(r"\w+")


def naive_bayes(
    train_texts: Sequence[str],
    train_y: np.ndarray,
    test_texts: Sequence[str],
    test_y: np.ndarray,
    num_classes: int,
) -> float:
    """Test accuracy, 0..1, of multinomial naive Bayes with counts plus one (Manning et al. 2008, section 13.2).

    Args:
      train_texts, test_texts: texts; words are lower case, and those that no training text has are left out.
      train_y, test_y: int [n], 0..num_classes - 1.
      num_classes: how many classes there are.
    """
    words = [_WORD.findall(text.lower()) for text in train_texts]
    numbers = {word: i for i, word in enumerate(sorted({word for own in words for word in own}))}
    counts = np.ones((num_classes, max(len(numbers), 1)))
    for own, label in zip(words, train_y):
        np.add.at(counts[label], [numbers[word] for word in own], 1)
    likelihood = np.log(counts / counts.sum(axis=1, keepdims=True))
    prior = np.log(np.bincount(train_y, minlength=num_classes) + 1.0)
    guesses = []
    for text in test_texts:
        known = [numbers[word] for word in _WORD.findall(text.lower()) if word in numbers]
        guesses.append(np.argmax(prior + likelihood[:, known].sum(axis=1)))
    return float(np.mean(np.array(guesses) == test_y))
