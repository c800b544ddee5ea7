-- Sends a session from a file with each request, checks every response, and
-- prints a line of JSON at the end. Arguments: the file, the length of its lines
-- with their ends, the first line to use (from 0), how many lines, and "true" to
-- choose lines at random instead of using each once.

local threads = {}

function setup(thread)
	threads[#threads + 1] = thread
end

function init(args)
	file = assert(io.open(args[1]))
	length, first, count, random = tonumber(args[2]), tonumber(args[3]), tonumber(args[4]), args[5] == "true"
	used, wrong, missing = 0, 0, 0
	before = wrk.format("GET"):gsub("\r\n$", "") .. "Cookie: "
	math.randomseed(os.time())
end

function request()
	local n = used
	if random then
		n = math.random(0, count - 1)
	elseif n == count then
		missing, n = missing + 1, 0
	else
		used = used + 1
	end
	file:seek("set", (first + n) * length)
	return before .. file:read(length - 1) .. "\r\n\r\n"
end

function response(status, _, body)
	if status ~= 200 or body ~= "app\n" then
		wrong = wrong + 1
	end
end

function done(summary, latency)
	local wrong, missing = 0, 0
	for _, thread in ipairs(threads) do
		wrong = wrong + thread:get("wrong")
		missing = missing + thread:get("missing")
	end
	local e = summary.errors
	print(string.format(
		'{"requests":%d,"duration":%d,"p50":%d,"p99":%d,"wrong":%d,"failed":%d,"missing":%d}',
		summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
		wrong, e.connect + e.read + e.write + e.timeout, missing
	))
end
