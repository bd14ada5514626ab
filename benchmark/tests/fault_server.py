"""A server that speaks OpenAI's, Azure's, Ark's and Gemini's protocols, and fails as it is told: a program of its own.

    python fault_server.py [--share 0.2] [--seed 1] [--slow 2.0]

prints its address. A share of the requests fails in one of the ways of FAULTS: which ones is decided by the seed, the
question and how often it was asked, so that the order in which threads come changes nothing; POST /plan
{"faults": [...]} says what happens to the next ones instead ("hold": answered when the next plan comes; an object
{"status", "headers", "body"}: answered with it, a body of text as Latin-1, any other as JSON). GET /stats
gives what was asked and what was delivered.
POST /images {"policy": ...} says what becomes of images: "see", "reject-tool" and "ignore-tool" (those in tool
messages), "reject", "ignore", "silent" (no reply to a request with one). A request for the characters in an image is
answered with what is read from its pixels.
The answer is decided by the question ("Question number 012?"), so that a mixed-up reply is seen.
"""

import argparse
import base64
import io
import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FAULTS = ("429", "429-date", "500", "503", "slow", "cut", "malformed", "oversized", "empty", "echo")
INPUT_TOKENS, OUTPUT_TOKENS = 120, 30
MIB = b" " * 2**20
TOOL = "get_frames_by_id"
TURNS = 2
"""Calls of an agent that is offered this tool, before it answers."""
MEETING = 4
"""Requests that wait for one another where the fault is "meet"."""


class State:
    def __init__(self, share: float, seed: int, slow: float) -> None:
        self.lock = threading.Lock()
        self.seed, self.share, self.slow = seed, share, slow
        self.asked: Counter[str] = Counter()
        self.plan: list[str | dict] = []
        self.faults: Counter[str] = Counter()
        self.delivered: Counter[str] = Counter()
        self.requests: list[dict[str, object]] = []
        self.files: dict[str, bytes] = {}
        self.polls: Counter[str] = Counter()
        self.active = self.most_active = 0
        self.released = threading.Event()
        self.images = "see"

    def fault(self, question: str = "") -> str | dict:
        with self.lock:
            self.asked[question] += 1
            dice = random.Random(f"{self.seed} {question} {self.asked[question]}")
            if self.plan:
                fault = self.plan.pop(0)
            elif dice.random() < self.share:
                fault = dice.choices(FAULTS, [0.2 if one == "slow" else 1.0 for one in FAULTS])[0]
            else:
                fault = "ok"
            self.faults[fault if isinstance(fault, str) else "given"] += 1
            return fault


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @property
    def state(self) -> State:
        return self.server.state  # type: ignore[attr-defined]

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/stats":
            state = self.state
            with state.lock:
                stats = {
                    "faults": state.faults,
                    "delivered": state.delivered,
                    "requests": state.requests,
                    "files": {name: len(content) for name, content in state.files.items()},
                    "most_active": state.most_active,
                }
            self.answer(200, stats)
        elif name := re.fullmatch(r"/v1beta/(files/\w+)", self.path):
            self.state.polls[name[1]] += 1
            ready = self.state.polls[name[1]] > 1
            self.answer(200, self.file_record(name[1], "ACTIVE" if ready else "PROCESSING"))
        else:
            self.answer(404, {"error": {"message": f"no {self.path}"}})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/plan":
            self.state.plan = json.loads(body)["faults"]
            self.state.released.set()
            self.state.released = threading.Event()
            self.answer(200, {})
        elif self.path == "/images":
            self.state.images = json.loads(body)["policy"]
            self.answer(200, {})
        elif self.path.startswith("/upload"):
            self.upload(body)
        else:
            with self.state.lock:
                self.state.active += 1
                self.state.most_active = max(self.state.most_active, self.state.active)
            try:
                self.model(json.loads(body))
            finally:
                with self.state.lock:
                    self.state.active -= 1

    def model(self, body: dict) -> None:
        is_gemini = ":generateContent" in self.path
        key = self.headers.get("x-goog-api-key") or self.headers.get("api-key") or self.headers.get("authorization", "")
        kept = {"path": self.path, "body": without_pictures(body), "has_key": bool(key)}
        asks_code = "characters that are written in the image" in json.dumps(body)
        with self.state.lock:
            self.state.requests.append(kept)
        if asks_code:
            self.read_code(body, write=gemini if is_gemini else openai)
            return
        question = (re.findall(r"Question number (\d+)\?", json.dumps(body)) or ["0"])[-1]
        fault = self.state.fault(question)
        if isinstance(fault, dict):
            body = fault["body"]
            content = body.encode("latin-1") if isinstance(body, str) else json.dumps(body).encode()
            self.send(fault.get("status", 200), content, fault.get("headers"))
            return
        if fault == "meet":
            self.meet()
        if fault == "hold":
            self.state.released.wait(60)
        if not self.fail(fault, key.removeprefix("Bearer "), is_gemini=is_gemini):
            text = json.dumps(
                {
                    "answer": "AB"[int(question) % 2],
                    "segments": [[0.5, 1.5]],
                    "referring_expressions": [f"object {question}"],
                }
            )
            if fault == "echo-in-reply":
                text = f"your key is {key.removeprefix('Bearer ')}"
            with self.state.lock:
                self.state.delivered[question] += 1
            reply = (gemini if is_gemini else openai)(text, fault)
            if any(tool["function"]["name"] == TOOL for tool in body.get("tools", ()) if "function" in tool):
                turn = sum(message["role"] == "assistant" for message in body["messages"])
                reply = with_call(reply, turn) if turn < TURNS else reply
            self.answer(200, reply)

    def read_code(self, body: dict, write: Callable[[str, str], dict]) -> None:
        """Answer with the characters in the last image, as far as the policy lets it be seen."""
        policy = self.state.images
        images = [(role, url) for role, url in images_of(body) if not policy.startswith("ignore")]
        images += [one for one in images_of(body) if policy == "ignore-tool" and one[0] != "tool"]
        is_tool = any(role == "tool" for role, _ in images_of(body))
        if policy == "silent":
            self.state.released.wait(60)
        elif policy == "reject" or (policy == "reject-tool" and is_tool):
            self.error(400, "Image URLs are only allowed for messages with role 'user'")
        else:
            self.answer(200, write(f"It says {read_characters(images[-1][1])}." if images else "I see no image.", "ok"))

    def meet(self) -> None:
        """Wait until as many requests are under way as are to meet."""
        until = time.monotonic() + 60
        while self.state.most_active < MEETING and time.monotonic() < until:
            time.sleep(0.01)

    def fail(self, fault: str, key: str, *, is_gemini: bool) -> bool:
        """Fail in the way that is named; False where it is none."""
        write = gemini if is_gemini else openai
        whole = json.dumps(write("{}", "ok")).encode()
        inner = {"code": "ResponsibleAIPolicyViolation"}
        ways = {
            "429": self.limit,
            "429-date": self.limit,
            "429-long": self.limit,
            "429-money": self.limit,
            "echo": lambda _: self.error(500, f"internal error for key {key}"),
            "echo-401": lambda _: self.error(401, f"Incorrect API key provided: {key}", code="invalid_api_key"),
            "filter": lambda _: self.error(400, "filtered", code="content_filter", innererror=inner),
            "slow": lambda _: self.drip(whole),
            "cut": lambda _: self.cut(whole),
            "malformed": lambda _: self.send(200, whole[: len(whole) // 2]),
            "oversized": lambda _: self.oversized(),
            "empty": lambda _: self.answer(200, write("", "ok")),
        }
        way = ways.get(fault, (lambda _: self.error(int(fault), "in trouble")) if fault.isdecimal() else None)
        if way is not None:
            way(fault)
        return way is not None

    def error(self, status: int, message: str, **details: object) -> None:
        self.answer(status, {"error": {"message": message, "code": None} | details})

    def cut(self, whole: bytes) -> None:
        self.start(200, len(whole))
        self.wfile.write(whole[: len(whole) // 2])
        self.close_connection = True

    def limit(self, fault: str) -> None:
        error = {"error": {"message": "too many requests", "code": "rate_limit_exceeded"}}
        if fault == "429":
            self.answer(429, error, {"Retry-After": "0"})
        elif fault == "429-date":
            self.answer(429, error, {"Retry-After": self.date_time_string(int(time.time()) + 1)})
        elif fault == "429-long":
            self.answer(429, error, {"Retry-After": "7200"})
        else:
            self.answer(429, {"error": {"message": "no money", "code": "insufficient_quota"}})

    def drip(self, whole: bytes) -> None:
        """A reply that never stops and never ends: a byte now and then."""
        self.start(200, len(whole) + 1000)
        until = time.monotonic() + self.state.slow
        try:
            while time.monotonic() < until:
                self.wfile.write(b" ")
                time.sleep(0.1)
        except OSError:
            pass
        self.close_connection = True

    def oversized(self) -> None:
        self.start(200, 2**40)
        try:
            for _ in range(64):
                self.wfile.write(MIB)
        except OSError:
            pass
        self.close_connection = True

    def upload(self, body: bytes) -> None:
        """Gemini's resumable upload: a start that gives an address, then the bytes."""
        command = self.headers.get("X-Goog-Upload-Command", "")
        fault = self.state.fault() if command == "start" else "ok"
        if fault != "ok":
            self.answer(503, {"error": {"code": 503, "message": "later", "status": "UNAVAILABLE"}})
        elif command == "start":
            host = self.headers["Host"]
            self.answer(200, {}, {"x-goog-upload-url": f"http://{host}/upload/session/{len(self.state.files)}"})
        else:
            name = f"files/f{len(self.state.files)}"
            self.state.files[name] = body
            record = {"file": self.file_record(name, "PROCESSING")}
            self.answer(200, record, {"x-goog-upload-status": "final"})

    def file_record(self, name: str, state: str) -> dict:
        uri = f"http://{self.headers['Host']}/v1beta/{name}"
        return {"name": name, "uri": uri, "mimeType": "video/mp4", "state": state}

    def answer(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        self.send(status, json.dumps(body).encode(), headers)

    def send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.start(status, len(content), headers)
        self.wfile.write(content)

    def start(self, status: int, length: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()


def openai(text: str, fault: str) -> dict:
    """A chat completion in the form that api.openai.com gives it."""
    refused = fault == "refusal"
    message = {"role": "assistant", "content": None if refused else text, "annotations": []}
    message["refusal"] = "I cannot help with that." if refused else None
    finish = {"length": "length", "content_filter": "content_filter"}.get(fault, "stop")
    completion = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": {
            "prompt_tokens": INPUT_TOKENS,
            "completion_tokens": OUTPUT_TOKENS,
            "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
        "system_fingerprint": "fp_1",
    }
    return {key: value for key, value in completion.items() if (key, fault) != ("usage", "uncounted")}


def with_call(completion: dict, turn: int) -> dict:
    """The completion with a tool call in place of its text."""
    function = {"name": TOOL, "arguments": json.dumps({"frame_ids": [turn, turn + 1]})}
    call = {"id": f"call_{turn}", "type": "function", "function": function}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    return completion | {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}


def gemini(text: str, fault: str) -> dict:
    """A GenerateContentResponse in the form that generativelanguage.googleapis.com gives it."""
    usage = {
        "promptTokenCount": INPUT_TOKENS,
        "candidatesTokenCount": OUTPUT_TOKENS - 10,
        "thoughtsTokenCount": 10,
        "totalTokenCount": INPUT_TOKENS + OUTPUT_TOKENS,
        "promptTokensDetails": [{"modality": "VIDEO", "tokenCount": 100}],
    }
    base = {"usageMetadata": usage, "modelVersion": "gemini-2.5-pro", "responseId": "r1"}
    if fault == "blocked":
        return base | {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}
    finish = {"length": "MAX_TOKENS", "refusal": "SAFETY", "other": "OTHER"}.get(fault, "STOP")
    parts = [{"text": "thinking aloud", "thought": True}, {"text": text}] if text else []
    candidate = {"content": {"parts": parts, "role": "model"}, "finishReason": finish, "index": 0}
    return base | {"candidates": [candidate]}


def images_of(body: dict) -> list[tuple[str, str]]:
    """(role, base64) of each image: "tool" for those in the result of a call."""
    images = []
    for message in body.get("messages", ()):
        parts = message["content"] if isinstance(message["content"], list) else ()
        images += [(message["role"], one["image_url"]["url"].partition(",")[2]) for one in parts if "image_url" in one]
    for part in (part for content in body.get("contents", ()) for part in content["parts"]):
        results = part.get("functionResponse", {}).get("parts", ())
        images += [("tool", one["inlineData"]["data"]) for one in results]
        images += [("user", part["inlineData"]["data"])] if "inlineData" in part else []
    return images


def read_characters(data: str, alphabet: str = "ACEFHJKLMNPRTUVWXY34679", count: int = 6) -> str:
    """The characters of an image by comparison with drawn ones, each cut out and scaled to one size."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    def glyph(picture: Image.Image) -> np.ndarray:
        dark = Image.fromarray((np.asarray(picture.convert("L")) < 128).astype(np.uint8) * 255)
        return np.asarray(dark.crop(dark.getbbox()).resize((24, 24))).astype(float)

    def drawn(character: str) -> np.ndarray:
        picture = Image.new("L", (160, 160), 255)
        ImageDraw.Draw(picture).text((80, 80), character, fill=0, font=ImageFont.load_default(72), anchor="mm")
        return glyph(picture)

    known = {character: drawn(character) for character in alphabet}
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    column = picture.width / count
    glyphs = [
        glyph(picture.crop((round(i * column), 0, round((i + 1) * column), picture.height))) for i in range(count)
    ]
    return "".join(min(known, key=lambda one: abs(known[one] - seen).sum()) for seen in glyphs)


def without_pictures(value: object) -> object:
    """A request's body with pictures and videos as their lengths."""
    if isinstance(value, dict):
        return {key: without_pictures(one) for key, one in value.items()}
    if isinstance(value, list):
        return [without_pictures(one) for one in value]
    if isinstance(value, str) and len(value) > 5000:
        return f"{value[:30]}... {len(value)}"
    return value


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--share", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--slow", type=float, default=12.0)
    arguments = parser.parse_args()
    server = Server(("127.0.0.1", 0), Handler)
    server.state = State(arguments.share, arguments.seed, arguments.slow)  # type: ignore[attr-defined]
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
