"""Stage prompts: one prompt per user over the profile part of the history (paper, section 4.1)."""

from rec import layout
from rec.config import Params
from rec.prompts import is_rated, user_prompts
from rec.tables import INTERACTIONS, ITEMS, PROMPTS, USERS, read_table, write_table
from stages.runner import stage


@stage
def main(params: Params) -> None:
    """Write the prompts of all users."""
    table = user_prompts(
        read_table(layout.INTERACTIONS, INTERACTIONS),
        read_table(layout.ITEMS, ITEMS),
        read_table(layout.USERS, USERS),
        domain=params.data.domain,
        response=params.prompts.response,
        history=params.prompts.history,
        positive_rating=params.data.positive_rating,
        rated=is_rated(params),
    )
    write_table(table, layout.PROMPTS, PROMPTS)


if __name__ == "__main__":
    main()
