"""The people of the story on a pretrained model: those of Harbor, and a second approver, because a waiver takes two."""

from demo.cast import PEOPLE, main

if __name__ == "__main__":
    main({**PEOPLE, "hedy": (["approver"], "safety lead")})
