"""A base model's page: what a move would do before anybody clicks, and the click."""

import pytest

from registry.services.base_models import register_base_model
from tests.support.confirming import send
from tests.support.files import write_model_folder


@pytest.fixture
def new_files(model_root, base_model, ada):
    folder = write_model_folder(model_root / "harbor-2")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return register_base_model("harbor-support", source="harbor-2", actor=ada)


def test_the_page_says_what_a_move_would_change_and_turn_off(as_person, oscar, flag_on, new_files, base_model):
    page = as_person(oscar).get(f"/console/base-models/{new_files.pk}/").content.decode()
    assert "A move would change chat template: chat_template.jinja changed, and turn off 1 flag." in page
    assert "Move production here" in page
    assert f"/console/base-models/{base_model.pk}/" in page


def test_an_operator_moves_after_reading_what_goes_with_it_and_saying_why(as_person, oscar, ada, approved, flag_on, new_files):
    client, move = as_person(oscar), f"/console/base-models/{new_files.pk}/move/"
    for data in ({"environment": "production"}, {"environment": "production", "reason": "new weights"}):
        page = client.post(move, data, follow=True).text
        for words in ("turns off 1 flag, and none comes back by itself: production/harbor", "invalidates 1 revision for good"):
            assert words in page
    flag_on.refresh_from_db()
    assert flag_on.enabled
    page = send(client, move, {"environment": "production"}, follow=True).text
    assert "Flags turned off: 1; revisions invalidated: 1." in page
    assert "Move production here" not in page
    page = as_person(ada).get(f"/console/revisions/{approved.pk}/").content.decode()
    assert "Invalidated: production moved harbor-support from" in page


def test_an_author_moves_nothing(as_person, ada, flag_on, new_files):
    assert as_person(ada).post(f"/console/base-models/{new_files.pk}/move/", {"environment": "production"}).status_code == 403
    assert "Move production here" not in as_person(ada).get(f"/console/base-models/{new_files.pk}/").content.decode()
    flag_on.refresh_from_db()
    assert flag_on.enabled


def test_an_environment_that_does_not_exist_is_told_not_crashed_on(as_person, oscar, base_model):
    page = as_person(oscar).post(f"/console/base-models/{base_model.pk}/move/", {"environment": "nowhere"}, follow=True)
    assert "ENVIRONMENT_NOT_FOUND" in page.content.decode()


def test_the_list_links_to_the_page_and_says_where_it_is_served(as_person, ada, production, base_model):
    page = as_person(ada).get("/admin/registry/basemodel/").content.decode()
    assert f"/console/base-models/{base_model.pk}/" in page
    assert "production" in page
