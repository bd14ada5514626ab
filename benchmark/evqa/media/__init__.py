"""Videos and images: probing, exact frames, frame sampling, and writing.

Public functions are imported as `evqa.media.X`. Modules by topic:

- `video`: `Video`, `probe_video`, `read_frames`, `load_frames`; `frame_folders`: folders of images as videos.
- `sampling`: indices of the frames to read. `writer`: H.264 files; `audio` adds sound to them.
- `decode`, `video_index`, `containers`: exact frames of a file, its index, its opened container. `sample_tables`,
  `truncation`, `av1`, `hevc`: parsers of the headers of files and packets.
- `edits`: edit lists, which cut frames out and hide pixels without encoding.
- `images`: PNG and JPEG files. `buffers`: memory for large arrays.
"""

from evqa.media.frame_folders import (
    ASSUMED_FPS,
    IMAGE_SUFFIXES,
    fps_of_folder,
    frame_numbers,
    has_stated_fps,
    image_names,
    set_folder_fps,
)
from evqa.media.sampling import indices_at_fps, indices_every, nearest_index, random_in_bins, uniform_indices
from evqa.media.video import Video, load_frames, probe_video, read_frames
from evqa.media.writer import encode_video, video_file, write_video

__all__ = [
    "ASSUMED_FPS",
    "IMAGE_SUFFIXES",
    "Video",
    "encode_video",
    "fps_of_folder",
    "frame_numbers",
    "has_stated_fps",
    "image_names",
    "indices_at_fps",
    "indices_every",
    "load_frames",
    "nearest_index",
    "probe_video",
    "random_in_bins",
    "read_frames",
    "set_folder_fps",
    "uniform_indices",
    "video_file",
    "write_video",
]
