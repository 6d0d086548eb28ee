from voco_cli.data.index.patients import numbered


def test_numbers_in_place_of_names() -> None:
    assert numbered(["MEIER", "KHAN", "MEIER", "ABE"]) == ("p001", "p002", "p001", "p003")
    assert numbered(numbered(["b", "a", "b"])) == numbered(["b", "a", "b"])
    assert numbered(f"{n}" for n in range(1001))[-1] == "p1001"
