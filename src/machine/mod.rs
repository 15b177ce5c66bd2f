//! Every decision of supd, and nothing else: events go in, effects come out.
