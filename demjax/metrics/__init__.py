"""Metrics of zero-shot learning: counts and sums over blocks that add up, divided once, at the end.

    accuracy            per class and micro, harmonic mean, hit@k of flat ImageNet-21K
    curve               seen against unseen accuracy for every calibration, AUSUC, best H
    retrieval           recall@k, median and mean rank from ranks; pairing of images and captions; precision@k
    multilabel          precision, recall, F1 at K; filters of images; the named protocols
    average_precision   AP of labels and of images

Counts of two blocks add with `jax.tree.map(operator.add, a, b)`. This room receives scores, ranks and ids; it does
not search, and it knows no data set. Scores: greater is nearer.
"""

from demjax.metrics.accuracy import TIES as TIES
from demjax.metrics.accuracy import ClassCounts as ClassCounts
from demjax.metrics.accuracy import HitCounts as HitCounts
from demjax.metrics.accuracy import class_counts as class_counts
from demjax.metrics.accuracy import harmonic_mean as harmonic_mean
from demjax.metrics.accuracy import hit_at_k as hit_at_k
from demjax.metrics.accuracy import hit_counts as hit_counts
from demjax.metrics.accuracy import micro_accuracy as micro_accuracy
from demjax.metrics.accuracy import per_class_accuracy as per_class_accuracy
from demjax.metrics.accuracy import truth_ranks as truth_ranks
from demjax.metrics.average_precision import APCounts as APCounts
from demjax.metrics.average_precision import ap_counts as ap_counts
from demjax.metrics.average_precision import average_precision as average_precision
from demjax.metrics.average_precision import image_average_precision as image_average_precision
from demjax.metrics.average_precision import mean_average_precision as mean_average_precision
from demjax.metrics.curve import Curve as Curve
from demjax.metrics.curve import Gaps as Gaps
from demjax.metrics.curve import Point as Point
from demjax.metrics.curve import at_gamma as at_gamma
from demjax.metrics.curve import ausuc as ausuc
from demjax.metrics.curve import best_harmonic as best_harmonic
from demjax.metrics.curve import gaps as gaps
from demjax.metrics.curve import gaps_of_scores as gaps_of_scores
from demjax.metrics.curve import join_gaps as join_gaps
from demjax.metrics.curve import seen_unseen_curve as seen_unseen_curve
from demjax.metrics.inputs import check_ks as check_ks
from demjax.metrics.multilabel import IMAGE_FILTERS as IMAGE_FILTERS
from demjax.metrics.multilabel import PROTOCOLS as PROTOCOLS
from demjax.metrics.multilabel import F1AtK as F1AtK
from demjax.metrics.multilabel import Protocol as Protocol
from demjax.metrics.multilabel import TopKCounts as TopKCounts
from demjax.metrics.multilabel import f1_at_k as f1_at_k
from demjax.metrics.multilabel import image_filter as image_filter
from demjax.metrics.multilabel import multilabel_metrics as multilabel_metrics
from demjax.metrics.multilabel import top_labels as top_labels
from demjax.metrics.multilabel import topk_counts as topk_counts
from demjax.metrics.retrieval import Pairing as Pairing
from demjax.metrics.retrieval import PrecisionCounts as PrecisionCounts
from demjax.metrics.retrieval import RankCounts as RankCounts
from demjax.metrics.retrieval import mean_rank as mean_rank
from demjax.metrics.retrieval import median_rank as median_rank
from demjax.metrics.retrieval import pair_captions as pair_captions
from demjax.metrics.retrieval import precision_at_k as precision_at_k
from demjax.metrics.retrieval import precision_ceiling as precision_ceiling
from demjax.metrics.retrieval import precision_counts as precision_counts
from demjax.metrics.retrieval import rank_counts as rank_counts
from demjax.metrics.retrieval import recall_at_k as recall_at_k
from demjax.metrics.retrieval import sequential_folds as sequential_folds
