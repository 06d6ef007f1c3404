"""Event logs with known truth, drawn from a seed. Knows nothing of Spark or of the model.

domains.py says how people behave, process.py draws what may happen, thinning.py says what does, and log.py lays it out
beside the truth.
"""

from halflife.synthetic.domains import DOMAINS, EXPONENTIAL, NEWS, SHOP, VIDEO, Domain, EventType
from halflife.synthetic.log import SyntheticLog, generate

__all__ = ["DOMAINS", "EXPONENTIAL", "NEWS", "SHOP", "VIDEO", "Domain", "EventType", "SyntheticLog", "generate"]
