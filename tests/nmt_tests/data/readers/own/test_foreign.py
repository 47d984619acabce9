import json

import pytest

from nmt.data.readers.own import foreign
from nmt.errors import UserError
from tests.nmt_tests.data.readers.own.own_sets import images, read, write_json
from tests.nmt_tests.data.readers.own.tools import birds, write_labelme, write_table
from tests.nmt_tests.data.readers.raw_sets import coco, keypoints_xml

TABLE = "write a table of image,category,keypoint,x,y"
CONTENTS = [
    ({"_via_settings": {}, "_via_img_metadata": {}}, f"a project of VIA is not read; {TABLE}"),
    ({"0.jpg6": {"filename": "0.jpg", "size": 6, "regions": []}}, f"the JSON of VIA is not read; {TABLE}"),
    ({"description": "", "tags": [], "size": {}, "objects": []}, "Supervisely's format is not read; export COCO"),
    ({"classes": [], "tags": []}, "Supervisely's format is not read; export COCO keypoints"),
    ({"name": "x", "assets": {}, "tags": []}, "VoTT's format is not read"),
    ({"asset": {}, "regions": [], "version": "2"}, "VoTT's format is not read"),
    ({"metadata": {}, "instances": []}, "SuperAnnotate's format is not read; export COCO keypoints"),
    ({"version": "2.0", "item": {}, "annotations": []}, "V7 Darwin's format is not read; export COCO keypoints"),
    ({"info": {}, "categories": {}, "items": []}, "Datumaro's format is not read; export COCO keypoints"),
    ({"id": 1, "result": [], "task": {"data": {}}}, "Label Studio's files of single annotations are not read"),
    ({"version": 1.3, "people": []}, "OpenPose's format is not read, for it names no keypoints"),
    ({"src_imname": "0.jpg", "trg_imname": "1.jpg"}, "SPair-71k's format is read by --prepare spair"),
    ([{"data_row": {}, "projects": {}}], "Labelbox's format is not read"),
    ([{"image": "0.jpg", "joints": [[1, 2]]}], "MPII's format is not read, for it names no keypoints"),
    ([{"image": "0.jpg", "annotations": [{"label": "a", "coordinates": {}}]}], "CreateML holds boxes but no keypoints"),
    ([{"image_id": 1, "category_id": 1, "keypoints": [1, 2, 2], "score": 1}], "results of COCO are not read; give the"),
]


@pytest.mark.parametrize(("content", "message"), CONTENTS)
@pytest.mark.parametrize("name", ["export.json", "ds/ann/0.jpg.json"])
def test_other_json_is_named_with_what_to_export_instead(tmp_path, content, message, name):
    images(tmp_path, 2)
    if name.startswith("export"):
        write_json(tmp_path, {"bird": 1}, "a_label_map.json")
    with pytest.raises(UserError, match=message) as error:
        read(write_json(tmp_path, content, name))
    assert str(error.value).startswith(f"{tmp_path}/{name}: ") and "\n" not in str(error.value)


FILES = [
    ("labeled-data/v/CollectedData_me.h5", b"\x89HDF", "HDF5 is not read; give DeepLabCut's CSV of the same name"),
    ("labels.slp", b"\x89HDF", "SLEAP's format is not read"),
    ("a.h5", b"\x89HDF", "HDF5 is not read; write a table"),
    ("Points.MAT", b"MATLAB 5.0", "MATLAB's format is not read"),
    ("points.pkl", b"\x80\x04", "pickled files are not read, for they can run any code"),
    ("x.vott", b"{}", "VoTT's format is not read"),
    ("export.ndjson", b"{}\n{}", "JSON by lines, as Labelbox exports it, is not read"),
    ("points.jsonl", b"{}\n{}", "JSON by lines is not read"),
    ("data/train-0.parquet", b"PAR1", "Parquet is not read"),
    (
        "Annotations/0.xml",
        b"<annotation><object/></annotation>",
        "PascalVOC's XML holds boxes but no keypoints; export",
    ),
    ("Annotations/0.xml", keypoints_xml({}).encode(), "XML with keypoints; PascalVOC's are read by --prepare voc"),
    ("train/labels/0.txt", b"0 0.5 0.5 0.2 0.2 0.1 0.1 2 0.3 0.3 2\n", "YOLO's labels give keypoints no names; export"),
    ("points.csv.txt", b"image,category,keypoint,x,y\n", "a table of keypoints; rename it to points.csv"),
    ("points.TAB", b"image\tcategory\tkeypoint\tx\ty\n", "a table of keypoints; rename it to points.csv"),
    ("task.zip", b"PK", "an archive; unpack it"),
    ("data.tar.gz", b"\x1f\x8b", "an archive; unpack it"),
]


@pytest.mark.parametrize(("name", "content", "message"), FILES)
def test_other_files_are_named_with_what_to_export_instead(tmp_path, name, content, message):
    images(tmp_path, 2)
    (tmp_path / "README.txt").write_text("1 bird in each image\n")
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read(tmp_path)
    assert str(error.value).startswith(f"{tmp_path}/{name}: ")


def test_the_csv_of_via_is_named(tmp_path):
    (tmp_path / "via.csv").write_text('#filename,file_size,region_shape_attributes\n0.jpg,6,"{}"\n')
    with pytest.raises(UserError, match=r"via\.csv: the CSV of VIA is not read; write a table"):
        read(tmp_path)


@pytest.mark.parametrize("write", [write_labelme, write_table])
def test_files_of_other_formats_beside_good_ones_do_no_harm(tmp_path, write):
    images(tmp_path, 12)
    write(tmp_path, birds())
    write_json(tmp_path, {"classes": [], "tags": []}, "meta.json")
    for name in ("CollectedData_me.h5", "0.txt", "export.zip", "0.xml"):
        (tmp_path / name).write_bytes(b"0 0.5 0.5 0.2 0.2 0.1")
    listing = read(tmp_path)
    assert len(listing.entries) == 12 and "skipped, of a format that is not read: meta.json" in listing.notes


def test_what_is_read_is_never_taken_for_another_format():
    more = {"items": [], "people": [], "item": 1, "data_row": 1, "joints": []}
    assert foreign.instead(coco(2) | more) is None
    assert foreign.instead([{"image": "0.jpg", "keypoints": {}, "image_id": 3} | more]) is None
    assert foreign.instead(json.loads("[3]")) is None and foreign.instead(None) is None


def test_the_folder_below_is_named_before_the_archive_it_came_from(tmp_path):
    images(tmp_path / "birds", 12)
    write_table(tmp_path / "birds", birds())
    (tmp_path / "birds.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match=rf"points\.csv; give --raw {tmp_path}/birds$"):
        read(tmp_path)


def test_annotations_in_a_folder_below_say_which_folder_to_give_or_where_to_put_them(tmp_path):
    images(tmp_path / "task", 12, "images/default")
    write_json(tmp_path / "task", coco(12), "annotations/person_keypoints_default.json")
    with pytest.raises(UserError, match=rf"person_keypoints_default\.json; give --raw {tmp_path}/task$"):
        read(tmp_path)
    (tmp_path / "task" / "images").rename(tmp_path / "images")
    (tmp_path / "task" / "annotations").rename(tmp_path / "labels")
    with pytest.raises(UserError, match=rf"labels/person_keypoints_default\.json; move the file to {tmp_path}$"):
        read(tmp_path)
    (tmp_path / "labels").rename(tmp_path / "Annotations")
    assert len(read(tmp_path).entries) == 12
