-- A worker takes a job, or learns why not. Time is Redis's own.
-- KEYS: j:{job}
-- ARGV: 1 fence (random), 2 worker (instance id), 3 incarnation (random per start), 4 lease_ms, 5 ttl_ms, 6 copy, 7 tries (of
--       the record), 8 when its id was made, ms, 9 epoch_ms (when this Redis's memory began), 10 the fence that this
--       worker held before ('' for none: a claim that is made again after a doubt), 11 the attempt that it knows of (0: none),
--       12 '1': claim what nothing stands of, although it is older than this Redis's memory,
--       then field, value … to set where nothing stands
-- Returns a list: verdict, attempt, tries, wish, and
--   'run'       granted; attempt is the one to begin; the 5th says why the claim before ended: '' none, 'died'; the 6th are the
--               calls of owners before (JSON, '' none), the 7th the bytes that the last one's answer had, the 8th how many owners died
--               that had called nobody for it, the 9th picked_up_ms (0: never), the 10th first_token_ms (0: none), the 11th the parts
--               of that answer (JSON, '' none)
--   'finishing' granted; the result is decided: 5th its JSON; publish it again, do not call
--   'held'      another live worker has it; 5th: ms until its lease ends
--   'forgotten' it is older than this Redis's memory, and nothing stands of it: it may have ended. Nothing is written.
--   'terminal'  5th: the state. 'refused': complete the record. 'stale': the queue made a newer copy; complete this one.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local h = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'tries', 'copy', 'wish', 'worker', 'incarnation',
	'lease', 'result', 'fence', 'called', 'calls', 'deaths', 'picked_up_ms', 'first_token_ms', 'parts', 'parts_before')
local state, wish = h[1], h[5] or ''
local attempt, tries = tonumber(h[2] or '0'), tonumber(h[3] or '0')
local died, deaths = '', tonumber(h[13] or '0')

if state == 'succeeded' or state == 'failed' or state == 'expired' or state == 'cancelled' then
	return {'terminal', tostring(attempt), tostring(tries), wish, state}
end
if state == 'refused' then
	return {'refused', '0', '0', '', ''}
end
if tonumber(ARGV[6]) < tonumber(h[4] or '0') then
	return {'stale', tostring(attempt), tostring(tries), wish, ''}
end
local set = {}
if not state then
	set = {'v', '1', unpack(ARGV, 13)}
	if tonumber(ARGV[8]) < tonumber(ARGV[9]) then
		if ARGV[12] ~= '1' then
			return {'forgotten', '0', '0', '', ''}
		end
		-- An older attempt may have been seen by clients before Redis lost its memory: begin above all of them.
		attempt = math.max(0, now - tonumber(ARGV[8]))
	end
end
attempt = math.max(attempt, tonumber(ARGV[11]))
if h[10] and h[10] ~= ARGV[10] then
	local left = tonumber(h[8] or '0') - now
	if left > 0 and not (h[6] == ARGV[2] and h[7] ~= ARGV[3]) then
		return {'held', tostring(attempt), tostring(tries), wish, tostring(left)}
	end
	died = 'died'
	-- Its call, where it began one, is counted as a try. A death before any call is counted apart: most of those that waited with
	-- a worker that died had no part in it, and a poisonous job must end all the same.
	if state ~= 'finishing' and h[11] ~= h[10] then
		deaths = deaths + 1
	end
end
tries = math.max(tries, tonumber(ARGV[7]))
local function also(name, value)
	set[#set + 1] = name
	set[#set + 1] = value
end
also('fence', ARGV[1])
also('worker', ARGV[2])
also('incarnation', ARGV[3])
also('lease', tostring(now + tonumber(ARGV[4])))
also('tries', tostring(tries))
also('copy', ARGV[6])
if deaths > 0 then
	also('deaths', tostring(deaths))
end
if state == 'finishing' then
	redis.call('HSET', KEYS[1], unpack(set))
	redis.call('PEXPIRE', KEYS[1], ARGV[5])
	return {'finishing', tostring(attempt), tostring(tries), wish, h[9] or ''}
end
-- What was said last stands under the last call's attempt. Its parts are set aside by the first claim behind it.
local said, had, parts = h[12] and string.match(h[12], '.*"attempt":(%d+)'), 0, false
if said then
	had = redis.call('STRLEN', 'out:' .. string.sub(KEYS[1], 3) .. ':' .. said)
	parts = h[17]
	if said == h[2] then
		parts = h[16]
	end
end
if parts then
	also('parts_before', parts)
elseif h[17] then
	redis.call('HDEL', KEYS[1], 'parts_before')
end
attempt = attempt + 1
also('state', 'queued')
also('attempt', tostring(attempt))
redis.call('HSET', KEYS[1], unpack(set))
redis.call('PEXPIRE', KEYS[1], ARGV[5])
if state then
	redis.call('HDEL', KEYS[1], 'parts') -- they are another answer's
end
return {'run', tostring(attempt), tostring(tries), wish, died, h[12] or '', tostring(had), tostring(deaths),
	h[14] or '0', h[15] or '0', parts or ''}
