"""Several processes as one program: joining, agreeing, and not waiting for one that is gone.

JAX's multi-process runtime does the work: every process runs the same program, arrays span all devices, and whatever
involves them all (collectives, checkpoints, the functions here) must be called by all. One process is the same with
nobody to ask.
"""

from demjax.processes.agree import any_of as any_of
from demjax.processes.agree import check_alike as check_alike
from demjax.processes.agree import from_first as from_first
from demjax.processes.agree import is_first as is_first
from demjax.processes.agree import least as least
from demjax.processes.agree import share_rows as share_rows
from demjax.processes.agree import take_turns as take_turns
from demjax.processes.agree import together as together
from demjax.processes.agree import wait as wait
from demjax.processes.join import Address as Address
from demjax.processes.join import add_flags as add_flags
from demjax.processes.join import cluster as cluster
from demjax.processes.join import join as join
from demjax.processes.join import join_flags as join_flags
from demjax.processes.join import leave as leave
