"""Several processes as one program: joining, agreeing, and not waiting for one that is gone.

JAX's multi-process runtime does the work: every process runs the same program, arrays span all devices, and whatever
involves them all (collectives, checkpoints, the functions here) must be called by all. One process is the same with
nobody to ask.
"""

from demjax.distributed.agree import any_of as any_of
from demjax.distributed.agree import check_alike as check_alike
from demjax.distributed.agree import from_first as from_first
from demjax.distributed.agree import is_first as is_first
from demjax.distributed.agree import raise_in_all as raise_in_all
from demjax.distributed.agree import share_blocks as share_blocks
from demjax.distributed.agree import share_rows as share_rows
from demjax.distributed.agree import smallest as smallest
from demjax.distributed.agree import wait as wait
from demjax.distributed.join import Address as Address
from demjax.distributed.join import add_flags as add_flags
from demjax.distributed.join import cluster as cluster
from demjax.distributed.join import join as join
from demjax.distributed.join import join_flags as join_flags
from demjax.distributed.join import leave as leave
