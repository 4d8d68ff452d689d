"""A loaded model that answers texts, without torch unless it is asked for."""
