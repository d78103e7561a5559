"""CUB-200-2011: every text encoder of Reed, Akata, Lee & Schiele 2016, symmetric (DS-SJE) and, for some, not (DA-SJE).

    python -m demjax.tables --suite=configs/suites/cub_sje.py --workdir=runs/sje --seeds=3 --set data.dir=FOLDER \
        --set data.features=vgg19 [--set data.descriptions=CAPTIONS]

The released setting with a shortened schedule: 10 passes of as many steps as there are seen classes. Without captions
of your own they are generated from the attributes. Half the width for the character LSTM: a sentence is 201 steps.
word2vec is a row where its file is given, too: --set task.word_vectors=glove.6B.300d.txt --only word2vec_ds.
"""

from demjax.protocols import Column
from demjax.train.sweep.suite import Row, Suite

COLUMNS = (
    Column("zsl/top1", "T1"),
    Column("zsl/micro", "T1 micro"),
    *(Column(f"text_to_image/precision@{k}", f"text to image P@{k}") for k in (1, 5, 10, 50)),
    *(Column(f"image_to_text/precision@{k}", f"image to text P@{k}") for k in (1, 50)),
    *(Column(f"captions/{n}/top1", f"T1, {n} caption" + "s" * (n > 1)) for n in (1, 5, 10)),
    Column("gzsl/harmonic", "H"),
    Column("hubness/n1_skewness", "N1 skewness", ""),
)
RELEASED = "the released setting, a shortened schedule"
ENCODERS = (
    "attributes", "bow", "word_cnn_rnn", "word_cnn", "word_lstm",
    "char_cnn_rnn", "char_cnn_rnn_long", "char_cnn_gru", "char_cnn", "char_cnn_large", "char_lstm",
)  # fmt: skip
ALSO_ASYMMETRIC = ("attributes", "bow", "word_cnn_rnn", "word_cnn", "word_lstm", "char_cnn_rnn")


def row(encoder, symmetric, **more):
    changes = {} if symmetric else {"task.symmetric": False}
    if encoder == "char_lstm":
        changes["task.width"] = 0.5
    name = f"{encoder}_{'ds' if symmetric else 'da'}"
    return Row(name, f"cub_sje.py:{encoder}_short", changes, selected=RELEASED, **more)


def get_suite():
    rows = [row(name, symmetric=True) for name in ENCODERS]
    rows.append(row("word2vec", symmetric=True, on_request=True))
    rows += [row(name, symmetric=False) for name in ALSO_ASYMMETRIC]
    notes = (
        "Text to image: a class prototype ranks all unseen test images, mean over classes of precision at k; at 50 it "
        "is the AP@50 of the paper. A class has 59 images on average, one with fewer than 50 cannot reach 100.",
        "T1, n captions: prototypes of n random captions of each class, mean of 5 draws.",
    )
    return Suite("DS-SJE and DA-SJE on CUB", tuple(rows), notes, COLUMNS, calibrated=False)
