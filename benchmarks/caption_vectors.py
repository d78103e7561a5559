"""Word vectors of captions generated for CUB: word2vec of gensim, trained on the captions of the seen classes.

    pip install gensim==4.4.0 && python benchmarks/caption_vectors.py --dir FOLDER --out words.txt
    python -m demjax.tables --suite=configs/suites/cub_sje.py --workdir=runs/sje --seeds=3 --set data.dir=FOLDER \\
        --set data.features=vgg19 --set task.word_vectors=words.txt --only word2vec_ds

No file of word vectors has the words of these captions, `a17` and so on. It measures nothing: it makes what the row
word2vec of the benchmark suite reads.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", required=True, help="folder with the .mat files of CUB")
    parser.add_argument("--features", default="vgg19")
    parser.add_argument("--out", required=True, type=Path, help="text file, in the format of word2vec")
    given = parser.parse_args()
    if given.out.exists():
        parser.error(f"--out={given.out} exists: remove it or name another file")
    from gensim.models import Word2Vec

    from demjax.checks import UserError
    from demjax.data import load
    from demjax.data.text.vocabulary import words_of

    try:
        dataset = load("CUB", dir=given.dir, features=given.features, descriptions="generated")
    except UserError as mistake:
        parser.error(str(mistake))
    captions = dataset.descriptions
    seen = [words_of(captions.sentences[i]) for i in captions.rows_of(dataset.seen)]
    model = Word2Vec(seen, vector_size=300, window=28, sg=1, min_count=1, epochs=10, seed=0, workers=1)
    model.wv.save_word2vec_format(str(given.out))
    print(f"{given.out}: {len(model.wv)} words of {len(seen):,} captions")


if __name__ == "__main__":
    main()
