-- Store values unless a newer owner has written under the same fence.
--
-- KEYS[1]      the fence;  KEYS[2..]  the keys to store, all of one hash tag
-- ARGV[1]      the writer's epoch, a decimal without sign or leading zeros
-- ARGV[2]      the fence's time to live in milliseconds
-- ARGV[3..]    for each key its value and its time to live in milliseconds
-- returns      '' where all was stored, else the epoch that the fence carries; then nothing was stored
--
-- Epochs are compared as text, the longer the greater: Lua's numbers lose integers over 2^53.
local current = redis.call('GET', KEYS[1])
local epoch = ARGV[1]
if current and (#current > #epoch or (#current == #epoch and current > epoch)) then
  return current
end
redis.call('SET', KEYS[1], epoch, 'PX', ARGV[2])
for i = 2, #KEYS do
  redis.call('SET', KEYS[i], ARGV[2 * i - 1], 'PX', ARGV[2 * i])
end
return ''
