"""The Lua scripts that Redis runs, each in one round trip. `redis_state.py` describes the keys.

Every script reads the clock of Redis, so the clocks of the nodes do not matter.
"""

# Grants a permit, or refuses it; also releases permits. Checked in this order: unreachable, held,
# turn, connections. A refusal changes nothing but the set of permits.
#
# KEYS: the host's hash, its set of permits.
# ARGV, times in seconds: 1 permit, 2 connections allowed, 3 interval between requests (0: no
# limit), 4 life of a permit, 5 longest wait for a turn, 6 when to ask again, 7 time for a probe,
# 8 expiry of the keys, 9… permits to release.
ACQUIRE = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local hash, permits = KEYS[1], KEYS[2]
local permit, connections, interval = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if #ARGV > 8 then redis.call('ZREM', permits, unpack(ARGV, 9)) end
local known = redis.call('HMGET', hash, 'dead_until', 'held_until', 'probe_until', 'next_request')
local function seconds(till) return tostring(till - now) end
local dead, held, probe = tonumber(known[1]), tonumber(known[2]), tonumber(known[3])
if dead and now < dead then return {'dead', seconds(dead)} end
if held and now < held then return {'held', seconds(held)} end
local probing = dead or held
if probing and probe and now < probe then
  return {dead and 'dead' or 'held', tostring(math.min(probe - now, tonumber(ARGV[6])))}
end
local turn = now
if interval > 0 then
  turn = math.max(now, tonumber(known[4]) or 0)
  if turn - now > tonumber(ARGV[5]) then return {'turn', seconds(turn)} end
end
redis.call('ZREMRANGEBYSCORE', permits, '-inf', now)
if redis.call('ZCARD', permits) >= connections then return {'full', ARGV[6]} end
redis.call('ZADD', permits, now + tonumber(ARGV[4]), permit)
redis.call('EXPIRE', permits, ARGV[8])
if interval > 0 then redis.call('HSET', hash, 'next_request', turn + interval) end
if probing then redis.call('HSET', hash, 'probe_until', now + tonumber(ARGV[7])) end
if interval > 0 or probing then redis.call('EXPIRE', hash, ARGV[8]) end
return {probing and 'probe' or 'go', seconds(turn)}
"""

# Closes the host for a while: after a 429 (held_until) or without an answer (dead_until). If the
# registry named no time, the wait doubles each time until the host is opened again. A shorter wait
# never replaces a longer one. Several workers that meet the same 429 are counted once, since the
# count grows only when the previous wait is over.
#
# KEYS: the host's hash.
# ARGV, times in seconds: 1 field of the end, 2 field of the count, 3 wait asked for (-1: none),
# 4 first wait, 5 longest wait, 6 expiry of the key.
CLOSE_HOST = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local hash, till, times = KEYS[1], ARGV[1], ARGV[2]
local asked, first, most = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local known = redis.call('HMGET', hash, till, times)
local before, count = tonumber(known[1]) or 0, tonumber(known[2]) or 0
if before <= now then count = redis.call('HINCRBY', hash, times, 1) end
local wait = asked
if wait < 0 then wait = math.min(first * 2 ^ math.max(count - 1, 0), most) end
local new = math.max(before, now + wait)
redis.call('HSET', hash, till, new)
redis.call('HDEL', hash, 'probe_until')
redis.call('EXPIRE', hash, math.max(tonumber(ARGV[6]), math.ceil(wait) + 60))
return tostring(new - now)
"""

# Reserves the time that these bytes take at the bandwidth limit, behind what was reserved before.
#
# KEYS: the host's hash. ARGV: 1 bytes, 2 bytes per second, 3 expiry of the key in seconds.
PACE = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local at = math.max(now, tonumber(redis.call('HGET', KEYS[1], 'next_byte')) or 0)
redis.call('HSET', KEYS[1], 'next_byte', at + ARGV[1] / ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return tostring(at - now)
"""
