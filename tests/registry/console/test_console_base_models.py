"""A base model's page: what a move would do before anybody clicks, and the click."""

import pytest

from registry.services.base_models import register_base_model
from tests.support.confirming import send
from tests.support.families import add_form
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


def test_each_form_stands_with_its_figures_on_the_page_of_what_it_is_a_form_of_and_the_other_way_round(
    as_person, ada, base_model, model_root
):
    small = add_form(base_model, "harbor-small", model_root, ada, verdict="quantised", worst="0.0714")
    page = as_person(ada).get(f"/console/base-models/{base_model.pk}/").text
    assert f"/console/base-models/{small.pk}/" in page
    assert "quantised, off by at most 0.0714 of the largest weight of a tensor" in page
    page = as_person(ada).get(f"/console/base-models/{small.pk}/").text
    assert page.count(f'href="/console/base-models/{base_model.pk}/"') == 1
    assert "quantised (2 quantised); farthest off in a.weight, by 0.0714 of its weights" in page
    listed = as_person(ada).get("/admin/registry/basemodel/").text
    assert listed.count(f'href="/console/base-models/{base_model.pk}/"') == 2


def test_a_base_model_that_was_not_measured_says_how_it_is(as_person, ada, base_model):
    page = as_person(ada).get(f"/console/base-models/{base_model.pk}/").text
    assert "steer model register harbor-support --source harbor --folder FOLDER" in page


def test_a_base_model_leads_to_what_was_made_from_it(as_person, ada, base_model, vector):
    page = as_person(ada).get(f"/console/base-models/{base_model.pk}/").text
    for kind in ("job", "steeringvector"):
        where = f"/admin/registry/{kind}/?base_model__id__exact={base_model.pk}"
        assert f'href="{where}"' in page
        assert as_person(ada).get(where).status_code == 200
    assert f"/console/vectors/{vector.pk}/" in as_person(ada).get(where).text
