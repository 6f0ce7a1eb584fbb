"""What people get wrong between a service and Vault: each mistake made for real, and what the doctor must say of it."""

from tests.extras.doctor.integration.mistakes import of_the_address, of_the_answers, of_the_login, of_the_secrets
from tests.extras.doctor.integration.mistakes.world import MISTAKES, World

__all__ = ["MISTAKES", "World", "of_the_address", "of_the_answers", "of_the_login", "of_the_secrets"]
