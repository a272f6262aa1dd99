"""What users say: their intentions and preferences in words, published, or made from training interactions."""

from recbole_lcrec.usertext.loading import SAVED_TEXTS, check_file, load_user_texts
from recbole_lcrec.usertext.published import write_published
from recbole_lcrec.usertext.texts import NO_USER_TEXTS, Intention, Preferences, UserTexts
from recbole_lcrec.usertext.user_text_settings import UserTextSettings

__all__ = [
    "NO_USER_TEXTS",
    "SAVED_TEXTS",
    "Intention",
    "Preferences",
    "UserTextSettings",
    "UserTexts",
    "check_file",
    "load_user_texts",
    "write_published",
]
