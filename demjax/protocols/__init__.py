"""How systems are judged: metrics, columns, objectives and pictures, one file a protocol."""

from demjax.protocols.gzsl import GZSL as GZSL
from demjax.protocols.protocol import Column as Column
from demjax.protocols.protocol import Embedder as Embedder
from demjax.protocols.protocol import Options as Options
from demjax.protocols.protocol import Protocol as Protocol
from demjax.protocols.protocol import Result as Result
from demjax.protocols.text_retrieval import TEXT_RETRIEVAL as TEXT_RETRIEVAL
from demjax.protocols.zsl import ZSL as ZSL

PROTOCOLS = {protocol.name: protocol for protocol in (ZSL, GZSL, TEXT_RETRIEVAL)}


def default_options() -> dict[str, object]:
    """The settings in `config.evaluate` of all protocols here, with their defaults."""
    return {key: value for protocol in PROTOCOLS.values() for key, value in protocol.options.items()}
